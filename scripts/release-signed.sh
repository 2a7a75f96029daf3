#!/usr/bin/env bash
# release-signed.sh [ARGUMENTS of release.sh] is release.sh for workflows, which have
# the private key in a variable, RELEASE_KEY, and not in a file.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

[ -n "${RELEASE_KEY-}" ] || die "RELEASE_KEY has no key; .github/SECURITY.md says which one it has to be"
SMVM_RELEASE_KEY=$(mktemp)
trap 'rm -f "$SMVM_RELEASE_KEY"' EXIT
printf '%s\n' "$RELEASE_KEY" >"$SMVM_RELEASE_KEY"
unset RELEASE_KEY
export SMVM_RELEASE_KEY
"$root/scripts/release.sh" "$@"
