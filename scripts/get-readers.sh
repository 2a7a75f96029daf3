#!/usr/bin/env bash
# get-readers.sh prints the directory with the programs that read our values as
# others do, built from the modules that backend/acceptance/readers names.
# python-dotenv is Debian's, and installed if it is missing.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

readonly module=$root/backend/acceptance/readers

/usr/bin/python3 -c 'import dotenv' 2>/dev/null || apt_install python3 python3-dotenv
sum=$(cat "$module/go.mod" "$module/go.sum" "$module"/*/*.go | sha256sum)
dir=$(cache_dir)/readers-${sum:0:16}
for program in dotenv externalsecrets; do
	if [ ! -x "$dir/$program" ]; then
		lock "$dir"
		[ -x "$dir/$program" ] || build_tool "$module" "./$program" "$dir/$program"
	fi
done
echo "$dir"
