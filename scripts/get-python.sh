#!/usr/bin/env bash
# Prints the path of a Python that has what bootstrap/apps/python and its tests import,
# after installing Debian's packages where one is missing.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

python=/usr/bin/python3 # Debian's packages are for this one
complete() { "$python" -c 'import cryptography, fastapi, httpx, jwt, psycopg2, pytest, sqlalchemy, uvicorn' 2>/dev/null; }

if ! complete; then
	lock "$(cache_dir)/python"
	complete || apt_install python3-cryptography python3-fastapi python3-httpx python3-jwt python3-psycopg2 python3-pytest python3-sqlalchemy python3-uvicorn
	complete || die "the packages are installed, but $python does not import them"
fi
printf '%s\n' "$python"
