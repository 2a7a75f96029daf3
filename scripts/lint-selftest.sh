#!/usr/bin/env bash
# Proves that .golangci.yml is in force: runs the linter over the bad code in
# scripts/lint/testdata, and fails unless each linter that a "want" comment
# names finds something on that line. A rule that has no effect, by a mistyped
# pattern for instance, looks just like clean code otherwise.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

lint=$("$root/scripts/get-lint.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/scripts/lint/testdata/." "$root/.golangci.yml" "$work"
cd "$work"
"$lint" run --output.text.path=found --output.text.print-issued-lines=false --show-stats=false ./... 2>errors && true
[ -s found ] || die "golangci-lint found nothing: $(cat errors)"

missed=0
while IFS=: read -r file line comment; do
	linter=${comment##*// want }
	grep -Eq "^$file:$line:.*\($linter\)\$" found && continue
	say "$linter does not find what is wrong at scripts/lint/testdata/$file:$line"
	missed=1
done < <(grep -rn '// want ' --include='*.go' . | sed 's,^\./,,')
if [ "$missed" = 1 ]; then
	cat found >&2
	die "a rule of .golangci.yml has no effect"
fi
