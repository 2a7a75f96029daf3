#!/usr/bin/env bash
# roll.sh restarts the instances of a service one after the other, each only when
# the one before answers its health check again. If one does not, it stops there
# and fails: the others go on with the values that they have, which stay valid
# for the overlap.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: roll.sh [options] PORT…

  -restart COMMAND  restarts the instance of $PORT;
                    by default: systemctl restart "smvm-api@$PORT"
  -health URL       has to answer 200; http://127.0.0.1:$PORT/health by default
  -timeout SECONDS  how long to wait for that; 60 by default
USAGE
}

# Both are run by eval, with PORT set.
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
	# What a proxy says tells nothing of the instance.
	until curl -fsS -o /dev/null --noproxy '*' --max-time 5 "$(eval "echo \"$health\"")" 2>/dev/null; do
		if [ "$SECONDS" -ge "$deadline" ]; then
			echo "roll.sh: the instance at $PORT does not answer; the others were left alone" >&2
			exit 1
		fi
		sleep 0.2
	done
done
