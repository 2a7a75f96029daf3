#!/bin/sh
# restart.sh CHECK COMMAND… runs a service that reads its files only when it starts,
# and restarts it when the Agent has written new ones. It is the first process of
# the service's container. CHECK is a command for sh that succeeds when the service
# answers requests.
#
# Instances restart one after the other: an instance that restarts locks the directory,
# which all instances share, until its CHECK succeeds. If CHECK never succeeds, the other
# instances keep the values that they have, which stay valid for the overlap.
set -u

dir=/var/lib/smvm-api check=$1
shift

start() {
	touch -r "$dir/changed" /tmp/taken
	"$@" 9<&- &
	service=$!
}

stop() {
	kill "$service" 2>/dev/null
	wait "$service"
}

running() { kill -0 "$service" 2>/dev/null; }

trap exit TERM INT
until [ -e "$dir/changed" ]; do
	sleep 1
done
exec 9<"$dir"
start "$@"
trap 'stop; exit' TERM INT
while running; do
	sleep 1
	[ -n "$(find "$dir/changed" -newer /tmp/taken)" ] || continue
	flock -n 9 || continue
	stop
	start "$@"
	until sh -c "$check" 9<&- 2>/dev/null; do
		sleep 1
		running || start "$@"
	done
	# In these seconds, a load balancer notices that this instance is back.
	sleep 5
	flock -u 9
done
wait "$service"
