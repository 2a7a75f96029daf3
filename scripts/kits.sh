#!/usr/bin/env bash
# kits.sh [ARGUMENTS of go test…] runs the examples of the kits for Node and Java
# (bootstrap/apps/node, bootstrap/apps/java) against real servers while their secrets
# rotate. It installs a JDK, and what the kit for Java needs, from Debian's packages.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

command -v go >/dev/null || die "install Go 1.26 first"
need gcc gcc libc6-dev # for the race detector
need javac default-jdk-headless
for jar in HikariCP:libhikaricp-java postgresql:libpostgresql-jdbc-java gson:libgoogle-gson-java slf4j-jdk14:libslf4j-java; do
	[ -e "/usr/share/java/${jar%:*}.jar" ] || apt_install "${jar#*:}"
done
SMVM_VAULT=$("$root/scripts/get-vault.sh")
export SMVM_VAULT
"$root/scripts/get-postgres.sh" >/dev/null
"$root/scripts/get-node.sh" >/dev/null

cd "$root"
# -v, to see how many requests there were.
CGO_ENABLED=1 go test -race -tags kits -count=1 -v -run '^Test(Node|Java)(Service|Keys)' -parallel "$((2 * $(nproc)))" "$@" ./backend/acceptance
