#!/usr/bin/env bash
# Prints the path of a vault binary. It is, in this order:
#   $SMVM_VAULT, the vault on PATH, or one built from the modules that
#   scripts/tools/vault names, kept in the cache outside the clone.
#
# VAULT_BUILD=minimal (default) builds what the tests and the demo need: raft,
# userpass, kv and external plugins. VAULT_BUILD=full builds the server as it
# is released, for measurements that are to be compared with others.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

if [ -n "${SMVM_VAULT:-}" ]; then
	found=$(command -v "$SMVM_VAULT") || die "SMVM_VAULT=$SMVM_VAULT is not an executable"
	realpath "$found"
	exit
fi
if found=$(command -v vault); then
	echo "$found"
	exit
fi

kind=${VAULT_BUILD:-minimal}
case $kind in
minimal) flags=(-tags minimal) ;;
full) flags=() ;;
*) die "VAULT_BUILD=$kind: it must be minimal or full" ;;
esac
module=$root/scripts/tools/vault
version=$(module_version "$module/go.mod" github.com/hashicorp/vault)
dir=$(cache_dir)/vault-$version-$kind
binary=$dir/vault
if [ ! -x "$binary" ]; then
	lock "$dir"
	if [ ! -x "$binary" ]; then
		command -v go >/dev/null || die "no vault on PATH and no go to build one; install Go 1.26 or set SMVM_VAULT"
		say "building Vault $version ($kind) into $dir, once: 4 to 10 minutes on two cores"
		build_tool "$module" github.com/hashicorp/vault "$binary" ${flags[@]+"${flags[@]}"}
		say "built Vault $version in $SECONDS s"
	fi
fi
echo "$binary"
