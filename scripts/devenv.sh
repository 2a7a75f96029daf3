#!/usr/bin/env bash
# devenv.sh [-cluster] [-enable] [-major N] [-- COMMAND ARGUMENTS…] runs COMMAND
# beside a real Vault, of one node or three, and a real PostgreSQL, or leaves
# them running for a person; see backend/internal/devenv. Not by "go run", which
# loses the exit code and does not pass SIGTERM on.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

command -v go >/dev/null || die "install Go 1.26 first"
need curl curl # for the demo's application
go build -C "$root" -buildvcs=false -o bin/devenv ./backend/internal/devenv
cd "$root"
exec bin/devenv "$@"
