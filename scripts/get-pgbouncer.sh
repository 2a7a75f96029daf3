#!/usr/bin/env bash
# Prints the path of a pgbouncer, after installing Debian's where there is none.
# The service that the package would start is kept from starting.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

find_pgbouncer() { PATH=$PATH:/usr/sbin command -v pgbouncer; }

find_pgbouncer && exit
lock "$(cache_dir)/pgbouncer"
if ! find_pgbouncer >/dev/null; then
	RUNLEVEL=1 apt_install pgbouncer
fi
find_pgbouncer || die "pgbouncer is installed but not on PATH"
