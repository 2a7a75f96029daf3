#!/usr/bin/env bash
# Prints the path of an etcd, after installing Debian's where there is none. The
# service that the package would start is kept from starting.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

command -v etcd && exit
lock "$(cache_dir)/etcd"
command -v etcd && exit
RUNLEVEL=1 apt_install etcd-server >&2
command -v etcd || die "etcd-server is installed but etcd is not on PATH"
