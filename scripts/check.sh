#!/usr/bin/env bash
# check.sh lints, and runs the tests of every package whose tests start no server.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

command -v go >/dev/null || die "install Go 1.26 first"
"$root/scripts/lint.sh"
cd "$root"
# A package whose tests start servers imports what starts them, or is that itself.
mapfile -t packages < <(go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | grep -vE 'internal/(pgtest|testenv)' | cut -d' ' -f1)
go test "${packages[@]}"
