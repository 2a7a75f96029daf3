#!/usr/bin/env bash
# bare.sh [TARGET…] makes a Debian with nothing but Go, git and make in a directory, and
# runs targets of the Makefile there, demo and test by default, in a clean clone of what
# is committed here.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

[ "$#" -gt 0 ] || set -- demo test
command -v go >/dev/null || die "install Go 1.26 first"
[ "$(id -u)" = 0 ] || die "only root can make a Debian in a directory; run as root: scripts/bare.sh"
need debootstrap debootstrap

work=$(mktemp -d /var/tmp/smvm-bare.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
readonly debian=$work/debian
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
debootstrap --variant=minbase --include=ca-certificates,git,make "$suite" "$debian" >"$work/debootstrap.log" 2>&1 &
follow $! "making a Debian" || die "debootstrap did not succeed: $(tail -n 5 "$work/debootstrap.log")"
cp -a "$(go env GOROOT)" "$debian/usr/local/go"
git clone -q "$root" "$debian/root/smvm"

# It reaches the network as this machine does.
cp /etc/resolv.conf "$debian/etc"
cp -r /usr/local/share/ca-certificates "$debian/usr/local/share"
chroot "$debian" update-ca-certificates >/dev/null 2>&1
settings=()
for name in http_proxy https_proxy no_proxy GOPROXY GOSUMDB NODE_EXTRA_CA_CERTS; do
	[ -z "${!name-}" ] || settings+=("$name=${!name}")
done

# In namespaces of its own: what is mounted, and what runs, ends with it. runc wants the
# root to be a mount.
# shellcheck disable=SC2016 # for that shell
unshare --mount --pid --fork --kill-child bash -euc '
	mount --bind "$1" "$1"
	mount --rbind /dev "$1/dev"
	mount --rbind /sys "$1/sys"
	mount -t proc proc "$1/proc"
	cd "$1"
	exec chroot . env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/go/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${@:2}"
' bare "$debian" "${settings[@]}" make -C /root/smvm "$@" </dev/null
