#!/usr/bin/env bash
# Prints the path of Vault's own PostgreSQL plugin, built from the modules that
# scripts/tools/vault names: the Vault that is built for the tests lacks it, and
# make load compares with it.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

module=$root/scripts/tools/vault
version=$(module_version "$module/go.mod" github.com/hashicorp/vault)
binary=$(cache_dir)/vault-$version-postgresql/postgresql-database-plugin
if [ ! -x "$binary" ]; then
	lock "$(dirname "$binary")"
	if [ ! -x "$binary" ]; then
		say "building Vault's PostgreSQL plugin, once"
		build_tool "$module" github.com/hashicorp/vault/plugins/database/postgresql/postgresql-database-plugin "$binary"
	fi
fi
echo "$binary"
