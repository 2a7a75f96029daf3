#!/usr/bin/env bash
# kubernetes.sh [OPTIONS of backend/internal/kubernetes…] runs the manifests of
# bootstrap/apps/kubernetes with the operators that they are for; -help lists the
# options. The programs are built once, and kept in the cache.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

command -v go >/dev/null || die "install Go 1.26 first"
go build -C "$root" -buildvcs=false -o bin/kubernetes ./backend/internal/kubernetes
cd "$root"
exec bin/kubernetes "$@"
