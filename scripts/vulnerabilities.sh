#!/usr/bin/env bash
# vulnerabilities.sh fails if the code calls anything with a known vulnerability, in any
# module or in Go itself. It asks https://vuln.go.dev.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

govulncheck=$("$root/scripts/get-tool.sh" workflows golang.org/x/vuln/cmd/govulncheck)
cd "$root"
"$govulncheck" ./...
