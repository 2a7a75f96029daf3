#!/usr/bin/env bash
# chaos.sh runs all cells of the fault matrix, and then random operations under
# random faults on three nodes. From the environment:
#   DURATION  of the random part, 30m by default; 0 leaves it out
#   SEED      of the random part, to replay it; one that is printed by default
#   COLUMN    runs one column of the matrix only, by its name; none leaves it out
#   OPERATION runs some operations of the matrix only, such as reader,limit
#   SMVM_CHAOS_PASSED  notes the cells that pass in a file, and leaves out those it has
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

command -v go >/dev/null || die "install Go 1.26 first"
need gcc gcc libc6-dev # for the race detector
SMVM_VAULT=$("$root/scripts/get-vault.sh")
export SMVM_VAULT
"$root/scripts/get-postgres.sh" >/dev/null

# chaos TEST VARIABLE=VALUE… runs one test of the package, however long it takes.
chaos() {
	env CGO_ENABLED=1 SMVM_CHAOS_OPERATIONS="${OPERATION:-}" "${@:2}" go test -race -count=1 -timeout 0 -v -run "^$1\$" ./backend/chaos
}

cd "$root"
failed=0
case ${COLUMN:-} in
none) ;;
"") chaos TestMatrix SMVM_CHAOS_ALL=1 || failed=1 ;;
*) chaos TestMatrix SMVM_CHAOS_COLUMN="$COLUMN" || failed=1 ;;
esac
if [ "${DURATION:=30m}" != 0 ]; then
	chaos TestSoak SMVM_CHAOS_DURATION="$DURATION" SMVM_CHAOS_SEED="${SEED:-}" || failed=1
fi
exit "$failed"
