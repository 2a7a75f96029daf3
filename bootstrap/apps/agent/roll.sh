#!/usr/bin/env bash
# roll.sh restarts the instances of a service one after the other, each only when the
# one before answers its health check again. If an instance does not answer, roll.sh
# fails and restarts none after it. Those keep their present values, which stay valid
# for the overlap.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: roll.sh [options] PORT…

Restarts the instance at each PORT, and waits until it is healthy before the next.

  -restart COMMAND  command that restarts the instance at $PORT;
                    by default: systemctl restart "smvm-api@$PORT"
  -health URL       address that answers 200 when the instance is healthy;
                    by default: http://127.0.0.1:$PORT/health
  -timeout SECONDS  how long to wait for each instance; 60 by default
USAGE
}

# eval expands both, with PORT set.
# shellcheck disable=SC2016
restart='systemctl restart "smvm-api@$PORT"' health='http://127.0.0.1:$PORT/health' timeout=60
while [ $# -gt 0 ]; do
	case $1 in
	-h | -help | --help)
		usage
		exit
		;;
	-restart | -health | -timeout)
		printf -v "${1#-}" %s "${2:?$1 needs a value}"
		shift 2
		;;
	*) break ;;
	esac
done
[ $# -gt 0 ] || {
	usage >&2
	exit 2
}

for PORT in "$@"; do
	eval "$restart"
	deadline=$((SECONDS + timeout))
	# Without a proxy, whose answer would say nothing about the instance.
	until curl -fsS -o /dev/null --noproxy '*' --max-time 5 "$(eval "echo \"$health\"")" 2>/dev/null; do
		if [ "$SECONDS" -ge "$deadline" ]; then
			echo "roll.sh: the instance at $PORT does not answer; those after it were not restarted" >&2
			exit 1
		fi
		sleep 0.2
	done
done
