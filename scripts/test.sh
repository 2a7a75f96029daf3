#!/usr/bin/env bash
# test.sh [ARGUMENTS of go test…] sets up what the tests need, then runs them
# with the race detector: all of them, unless the arguments say otherwise.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

command -v go >/dev/null || die "install Go 1.26 first"
need gcc gcc libc6-dev # for the race detector
# For bootstrap/apps/poll.sh, and to check and to run the units in bootstrap/apps/agent/systemd.
need curl curl
need jq jq
need systemd-analyze systemd
need podman podman runc
need /bin/kill procps # which the units run
SMVM_VAULT=$("$root/scripts/get-vault.sh")
export SMVM_VAULT
"$root/scripts/get-pgbouncer.sh" >/dev/null
"$root/scripts/get-postgres.sh" >/dev/null
for major in 14 15 16 17 18; do
	"$root/scripts/get-postgres.sh" "$major" >/dev/null
done

"$root/scripts/get-node.sh" >/dev/null
"$root/scripts/get-reader.sh" dotenv >/dev/null
/usr/bin/python3 -c 'import dotenv' 2>/dev/null || apt_install python3 python3-dotenv
"$root/scripts/get-python.sh" >/dev/null # for bootstrap/apps/python
need mypy mypy
"$root/scripts/get-prometheus.sh"
"$root/scripts/get-release-verifiers.sh"

# Vault waits for the disk at each commit, which no test needs: servers write to memory,
# if there is room for them and programs may run from there.
room=$(df --output=avail /dev/shm 2>/dev/null | tail -n 1)
if [ -z "${TMPDIR:-}" ] && [ "${room:-0}" -gt $((8 << 20)) ] &&
	options=$(findmnt -n -o OPTIONS /dev/shm) && [[ $options != *noexec* ]]; then
	export TMPDIR=/dev/shm
fi

cd "$root"
# Some packages compute and some wait, and so do their tests: more of both run at once
# than there are processors. Packages that take longest begin first.
[ "$#" -gt 0 ] || set -- -p "$((2 * $(nproc)))" ./backend/acceptance ./backend/secret/database ./backend/postgres ./backend/chaos ./backend ./...
# Go's own arithmetic of cryptography takes several times as long with the race detector, and
# has no races of this engine's.
CGO_ENABLED=1 go test -race -gcflags=crypto/internal/fips140/...=-race=false -timeout 30m -parallel "$((3 * $(nproc)))" "$@"
