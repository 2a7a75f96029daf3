#!/usr/bin/env bash
# Prints the path of a directory with tofu, and in providers/ a mirror with the provider
# of Vault, both built from the modules that scripts/tools/opentofu and
# scripts/tools/terraform-provider-vault name, and kept in the cache outside the clone.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

readonly tools=$root/scripts/tools provider=github.com/terraform-providers/terraform-provider-vault

command -v go >/dev/null || die "install Go 1.26 first"
tofu_version=$(module_version "$tools/opentofu/go.mod" github.com/opentofu/opentofu)
provider_version=$(module_version "$tools/terraform-provider-vault/go.mod" "$provider")
dir=$(cache_dir)/opentofu-$tofu_version-vault-$provider_version
mirrored=$dir/providers/registry.opentofu.org/hashicorp/vault/${provider_version#v}/$(go env GOOS)_$(go env GOARCH)/terraform-provider-vault_$provider_version
export CGO_ENABLED=0

# build MODULE PACKAGE OUT WHAT builds OUT unless it is there.
build() {
	[ ! -x "$3" ] || return 0
	say "building $4 into $dir, once"
	build_tool "$tools/$1" "$2" "$3" -ldflags '-s -w'
}

if [ ! -x "$dir/tofu" ] || [ ! -x "$mirrored" ]; then
	lock "$dir"
	build terraform-provider-vault "$provider" "$mirrored" "Vault's provider $provider_version: 1 to 3 minutes on two cores"
	build opentofu github.com/opentofu/opentofu/cmd/tofu "$dir/tofu" "OpenTofu $tofu_version: 6 to 15 minutes on two cores"
fi
echo "$dir"
