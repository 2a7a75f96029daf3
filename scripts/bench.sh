#!/usr/bin/env bash
# bench.sh [OPTIONS of backend/internal/bench…] measures the engine beside what a
# user would pick instead; -help lists the options.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

command -v go >/dev/null || die "install Go 1.26 first"
go build -C "$root" -buildvcs=false -o bin/bench ./backend/internal/bench
cd "$root"
# The comparison needs Vault as it is released, with its database engine.
VAULT_BUILD=full exec bin/bench "$@"
