#!/usr/bin/env bash
# get-reader.sh NAME prints the path of a program that reads our values as others
# do, built from the modules that backend/acceptance/readers names: dotenv.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

readonly module=$root/backend/acceptance/readers name=${1:?dotenv}

sum=$(cat "$module/go.mod" "$module/go.sum" "$module"/*/*.go | sha256sum)
binary=$(cache_dir)/readers-${sum:0:16}/$name
if [ ! -x "$binary" ]; then
	lock "$binary"
	[ -x "$binary" ] || build_tool "$module" "./$name" "$binary"
fi
echo "$binary"
