#!/usr/bin/env bash
# Prints the path of golangci-lint in exactly the version that scripts/lint
# names, built once and kept in the cache outside the clone: another version,
# such as one on PATH, would find other things.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

module=$root/scripts/lint
version=$(module_version "$module/go.mod" github.com/golangci/golangci-lint/v2)
dir=$(cache_dir)/golangci-lint-$version
binary=$dir/golangci-lint
if [ ! -x "$binary" ]; then
	lock "$dir"
	if [ ! -x "$binary" ]; then
		command -v go >/dev/null || die "no go to build golangci-lint with; install Go 1.26"
		say "building golangci-lint $version into $dir, once: 3 to 6 minutes on two cores"
		build_tool "$module" github.com/golangci/golangci-lint/v2/cmd/golangci-lint "$binary"
		say "built golangci-lint $version in $SECONDS s"
	fi
fi
echo "$binary"
