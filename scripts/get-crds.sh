#!/usr/bin/env bash
# Prints the directories with the CRDs of Vault Secrets Operator and of External
# Secrets Operator, one a line, from their Go modules: the manifests in
# bootstrap/apps/kubernetes are checked against them.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

# crds MODULE VERSION SUM DIRECTORY prints the directory in that very version.
crds() {
	local told dir
	told=$(cd / && GOFLAGS=-mod=mod go mod download -json "$1@$2") || die "could not get $1 $2: $told"
	[[ $told == *"\"Sum\": \"$3\""* ]] || die "$1 $2 is not what it was: its sum is not $3"
	dir=$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p' <<<"$told")
	echo "$dir/$4"
}

crds github.com/hashicorp/vault-secrets-operator v0.10.0 h1:BjOTBJRqx1SLo7NeyqNJWRPDyfRscbqPtGU1U2LzArg= config/crd/bases
crds github.com/external-secrets/external-secrets v0.19.2 h1:bdOpEt9Pww2e8QGh4apX7M0nehwNOVAQJLd8z6hAXWI= config/crds/bases
