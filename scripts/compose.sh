#!/usr/bin/env bash
# compose.sh runs the containers of bootstrap/apps/compose: docker-compose starts
# them at a podman with images, containers and volumes of its own. TestCompose says
# what happens then, and checks it.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

command -v go >/dev/null || die "install Go 1.26 first"
[ "$(id -u)" = 0 ] || die "only root can make a Debian in a directory and run containers of it; run as root: make compose"
need gcc gcc libc6-dev # for the race detector
need curl curl
need podman podman runc
need docker-compose docker-compose
need debootstrap debootstrap
need haproxy haproxy
SMVM_VAULT=$("$root/scripts/get-vault.sh")
export SMVM_VAULT
"$root/scripts/get-postgres.sh" >/dev/null

# debian prints where an archive of a Debian is, with what the Python example needs.
debian() {
	# debootstrap does not find python3-cffi-backend, which a virtual package asks for.
	local suite packages=python3-cffi-backend,python3-cryptography,python3-fastapi,python3-jwt,python3-psycopg2,python3-uvicorn sum archive
	suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	sum=$(printf %s "$suite $packages" | sha256sum)
	archive=$(cache_dir)/debian-python-${sum:0:16}.tar
	if [ ! -e "$archive" ]; then
		lock "$archive"
		if [ ! -e "$archive" ]; then
			say "making $archive, once"
			debootstrap --variant=minbase --include="$packages" "$suite" "$work/debian" >"$work/debootstrap.log" 2>&1 9>&- &
			follow $! "making a Debian" || die "debootstrap did not succeed: $(tail -n 5 "$work/debootstrap.log")"
			tar -C "$work/debian" --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./dev/*' -cf "$archive.part" .
			mv "$archive.part" "$archive"
		fi
	fi
	printf %s "$archive"
}

work=$(mktemp -d /var/tmp/smvm-compose.XXXXXX)
trap 'rm -rf "$work"' EXIT
archive=$(debian)

cat >"$work/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
# Without a systemd there is nobody to run health checks: TestCompose does.
env = ["DISABLE_HC_SYSTEMD=true"]
CONF
cat >"$work/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "$work/run"
CONF
export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf

finish() {
	podman rm --all --force --time 0 >/dev/null
	podman volume prune --force >/dev/null
	[ -z "${service:-}" ] || kill "$service"
	wait
	rm -rf "$work"
}
trap finish EXIT

# One image stands for both that compose.yaml names.
cp "$archive" "$work/image.tar"
CGO_ENABLED=0 go build -C "$root" -buildvcs=false -o "$work/smvm-api" ./cmd/smvm-api
# add FILE AS puts a file or a directory into the image.
add() { tar -rf "$work/image.tar" --owner=0 --group=0 --exclude=__pycache__ --transform "s|^${1##*/}|$2|" -C "${1%/*}" "${1##*/}"; }
add "$work/smvm-api" usr/local/bin/smvm-api
add "$SMVM_VAULT" usr/local/bin/vault
add "$root/bootstrap/apps/python/smvm" usr/lib/python3/dist-packages/smvm
podman import --quiet "$work/image.tar" docker.io/library/smvm-api:latest >/dev/null
podman tag docker.io/library/smvm-api:latest docker.io/hashicorp/vault:1.21
rm "$work/image.tar"

podman system service --time 0 "unix://$work/engine" &
service=$!
export DOCKER_HOST=unix://$work/engine
until curl -fsS -o /dev/null --unix-socket "$work/engine" http://engine/_ping 2>/dev/null; do
	kill -0 "$service" 2>/dev/null || die "podman system service has ended"
	sleep 0.2
done

cd "$root"
CGO_ENABLED=1 go test -race -count=1 -timeout 30m -v -tags compose -run '^TestCompose$' ./backend/acceptance
