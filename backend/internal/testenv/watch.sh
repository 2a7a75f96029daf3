#!/bin/sh
# Ends what the harness started in the directory $1, and removes the directory,
# as soon as the other end of stdin is closed: by the harness, or by the kernel
# when the harness dies, however it dies.
#
# Each line of stdin is the process id of the server that now runs, or 0.
# Everything else is found by its working directory: backends of PostgreSQL
# leave the process group, and plugins outlive a killed Vault. A process with a
# terminal is not ours but a person's shell.
dir=$1
server=0
while read -r line; do server=$line; done

ours() {
	[ "$server" != 0 ] && [ -d "/proc/$server" ] && echo "$server"
	# One find for all processes: a readlink for each costs a third of a second.
	find /proc/[0-9]*/cwd -prune \( -lname "$dir" -o -lname "$dir/*" \) 2>/dev/null | while read -r cwd; do
		process=${cwd%/cwd}
		read -r stat <"$process/stat" || continue
		# shellcheck disable=SC2086 # fields after "(name)": state ppid pgrp session tty
		set -- ${stat##*) }
		[ "$1" = Z ] || [ "$5" != 0 ] || echo "${process#/proc/}"
	done
}

round=0
while pids=$(ours); [ -n "$pids" ]; do
	# 5 seconds to shut down in order, so that no shared memory is left behind.
	# shellcheck disable=SC2086 # a list
	if [ "$round" = 0 ]; then
		kill -s INT $pids
		kill -s CONT $pids
	elif [ "$round" -ge 50 ]; then
		kill -s KILL $pids
	fi
	round=$((round + 1))
	sleep 0.1
done
rm -rf -- "$dir"
