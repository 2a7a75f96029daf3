#!/usr/bin/env bash
# load.sh [OPTIONS of backend/internal/load…] runs the example services under load
# while their credentials rotate, and says what failed; -help lists the options.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

command -v go >/dev/null || die "install Go 1.26 first"
need curl curl
go build -C "$root" -buildvcs=false -o bin/load ./backend/internal/load
cd "$root"
exec bin/load "$@"
