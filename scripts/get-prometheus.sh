#!/usr/bin/env bash
# get-prometheus.sh installs Debian's Prometheus and Alertmanager, for prometheus,
# promtool, prometheus-alertmanager and amtool, unless they are there. The services
# that the packages would otherwise start are not started, by Debian's own means:
# a policy-rc.d, which is taken away again.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

readonly policy=/usr/sbin/policy-rc.d

installed() { command -v promtool && command -v prometheus-alertmanager && command -v amtool; } >/dev/null

installed && exit
lock "$(cache_dir)/prometheus"
installed && exit
if [ ! -e "$policy" ]; then
	trap 'as_root rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
	as_root chmod 755 "$policy"
fi
apt_install prometheus prometheus-alertmanager
