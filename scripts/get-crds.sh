#!/usr/bin/env bash
# Prints the directories with the CRDs of Vault Secrets Operator and of External
# Secrets Operator, one a line, from the Go modules that scripts/tools names: the
# manifests in bootstrap/apps/kubernetes are checked against them.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

# crds TOOL MODULE DIRECTORY prints the directory in the module that scripts/tools/TOOL
# names, in that very version.
crds() {
	local tool=$root/scripts/tools/$1 version sum told dir
	version=$(module_version "$tool/go.mod" "$2")
	sum=$(awk -v module="$2" -v version="$version" '$1 == module && $2 == version { print $3 }' "$tool/go.sum")
	told=$(cd / && GOFLAGS=-mod=mod go mod download -json "$2@$version") || die "could not get $2 $version: $told"
	[[ $told == *"\"Sum\": \"${sum:?}\""* ]] || die "$2 $version is not what it was: its sum is not $sum"
	dir=$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p' <<<"$told")
	echo "$dir/$3"
}

crds vault-secrets-operator github.com/hashicorp/vault-secrets-operator config/crd/bases
crds external-secrets github.com/external-secrets/external-secrets config/crds/bases
