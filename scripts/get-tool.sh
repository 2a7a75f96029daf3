#!/usr/bin/env bash
# get-tool.sh MODULE PACKAGE prints the path of a program, built from PACKAGE in exactly
# the version that the module scripts/tools/MODULE names, and kept in the cache
# outside the clone.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

readonly module=$root/scripts/tools/${1:?a directory of scripts/tools} wanted=${2:?a package}

export CGO_ENABLED=0
sum=$(find "$module" -type f \( -name 'go.*' -o -name '*.go' \) -print0 | sort -z | xargs -0 cat | sha256sum)
binary=$(cache_dir)/tools-$1-${sum:0:16}/${wanted##*/}
if [ ! -x "$binary" ]; then
	lock "$binary"
	[ -x "$binary" ] || build_tool "$module" "$wanted" "$binary" -ldflags "-s -w"
fi
echo "$binary"
