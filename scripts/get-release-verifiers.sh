#!/usr/bin/env bash
# get-release-verifiers.sh installs what a user verifies and takes apart a release
# with, unless it is there: minisign, umoci, dpkg-deb and jq of Debian.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

lock "$(cache_dir)/release-verifiers"
need minisign minisign
need umoci umoci
need dpkg-deb dpkg
need jq jq
