#!/usr/bin/env bash
# get-node.sh prints the directory in which the libraries lie that tests try our
# tokens with, and those of the kit for Node, as
# backend/acceptance/node/package-lock.json pins them. Node and openssl are Debian's,
# and installed if they are missing.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

readonly pinned=$root/backend/acceptance/node

need node nodejs
need npm npm
need openssl openssl
sum=$(cat "$pinned/package.json" "$pinned/package-lock.json" | sha256sum)
dir=$(cache_dir)/node-${sum:0:16}
if [ ! -d "$dir" ]; then
	lock "$dir"
	if [ ! -d "$dir" ]; then
		work=$dir.part.$$
		say "fetching libraries from npm into $dir, once"
		# shellcheck disable=SC2064 # the values of now
		trap "rm -rf '$work'" EXIT
		mkdir -p "$work"
		cp "$pinned/package.json" "$pinned/package-lock.json" "$work"
		(cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error 9>&-) >&2 ||
			die "npm ci did not succeed; its messages are above"
		mv "$work" "$dir"
		trap - EXIT
	fi
fi
echo "$dir"
