#!/usr/bin/env bash
# Checks the Go code, the scripts, and the links between documents.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

lint=$("$root/scripts/get-lint.sh")
need shellcheck shellcheck
cd "$root"
"$lint" config verify
scripts/lint-selftest.sh
"$lint" run ./...
(cd scripts/tools/release && go vet ./...)
# Every script here that is not another project's, with or without a suffix.
mapfile -t scripts < <(find scripts bootstrap backend .ci -type f \( -name '*.sh' -o -path .ci/run \) -not -path '*/testdata/*')
shellcheck --external-sources "${scripts[@]}"
# The workflows, and the scripts in them.
"$(scripts/get-tool.sh workflows github.com/rhysd/actionlint/cmd/actionlint)"
# Dead links and anchors of the documents.
go test -run TestLinks ./bootstrap
