#!/usr/bin/env bash
# systemd-root.sh DIR makes a root file system in DIR in which systemd boots in a
# container: copies of it, of a shell, and of what the units in bootstrap/ and the
# steps that install them call, as they are installed here. It has no units but
# targets.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

readonly dir=${1:?where to}
need podman podman runc
need curl curl
need jq jq
need useradd passwd

programs=(/lib/systemd/systemd /usr/sbin/useradd)
[ ! -e /lib/systemd/systemd-executor ] || programs+=(/lib/systemd/systemd-executor)
for name in systemctl sh bash rm mv touch sleep kill cat grep env timeout mkdir curl jq \
	install ln sed awk find dirname realpath id chown chmod stat flock date sort cut head setpriv; do
	programs+=("/usr/bin/$name")
done

mkdir -p "$dir"/usr/{bin,sbin,lib,lib64,lib/systemd/system} "$dir"/{etc/systemd/system,var/tmp,home,root,srv,run,tmp,proc,sys,dev}
for name in bin sbin lib lib64; do
	ln -s "usr/$name" "$dir/$name"
done
{
	printf '%s\n' "${programs[@]}"
	ldd "${programs[@]}" | sed -n 's|^[^/]*\(/[^ ]*\) (.*|\1|p'
} | sort -u | while read -r file; do
	mkdir -p "$dir${file%/*}"
	cp --dereference "$file" "$dir$file"
done
cp --no-dereference /lib/systemd/system/*.target "$dir/lib/systemd/system"
: >"$dir/etc/machine-id"
echo 'root:x:0:0::/root:/bin/sh' >"$dir/etc/passwd"
echo 'root:x:0:' >"$dir/etc/group"
