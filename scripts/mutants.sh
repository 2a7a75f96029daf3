#!/usr/bin/env bash
# mutants.sh [-only REGEXP] [-jobs N] [-results FILE] [-v] breaks the engine on purpose,
# in many ways, and fails unless some test notices each; see backend/internal/mutants.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

command -v go >/dev/null || die "install Go 1.26 first"
"$root/scripts/get-postgres.sh" >/dev/null
go build -C "$root" -buildvcs=false -o bin/mutants ./backend/internal/mutants
cd "$root"
exec bin/mutants "$@"
