# shellcheck shell=bash
# Sourced by the scripts beside it: how they write files when they run as root.
# In a directory that another user can change, whatever root writes may land
# elsewhere, through a link that was put there, also in the middle of it. So root
# writes only where each part of the path is its own; for anybody else there is
# nothing to gain.

# foreign DIRECTORY prints which parts of its path others than root can change, or
# have made a link of. It has to be absolute, without . and ..; parts that are not
# there yet are nobody's. It fails if it can't tell.
foreign() {
	local at=$1 above=(/)
	if [ -e "$at" ] || [ -L "$at" ]; then
		find "$at" -maxdepth 0 \( -type l -o ! -type d -o ! -uid 0 -o -perm /022 \) || return
	fi
	while [ "$at" != / ]; do
		at=$(dirname "$at")
		if [ -e "$at" ] || [ -L "$at" ]; then
			above+=("$at")
		fi
	done
	# In a directory such as /tmp, nobody can replace what is root's.
	find "${above[@]}" -maxdepth 0 \( -type l -o ! -type d -o ! -uid 0 -o -perm /022 ! -perm -1000 \)
}

# rooted DIRECTORY fails, saying why, if this runs as root and should not write
# there.
rooted() {
	local dir found
	[ "$(id -u)" = 0 ] || return 0
	dir=$(realpath -ms -- "$1")
	found=$(foreign "$dir") || found=${found:-$dir}
	[ -n "$found" ] || return 0
	printf '%s: root does not write in %s: %s is a link, or others than root can change it.\n' "${0##*/}" "$1" "${found%%$'\n'*}" >&2
	printf '  Run this as the user that it belongs to, or name a directory of root, such as one made by: install -d -m 0755 DIRECTORY\n' >&2
	printf '  One that has been of another user is moved away rather than taken over: there may be links in it.\n' >&2
	return 1
}

# put FILE MODE [OWNER] writes standard input to a file, whole or not at all. What
# is there is replaced, never written to. The directory has to be rooted.
put() {
	rm -f -- "$1.part"
	(umask 077 && set -o noclobber && cat >"$1.part")
	[ -z "${3-}" ] || chown -h -- "$3" "$1.part"
	chmod -- "$2" "$1.part"
	mv -fT -- "$1.part" "$1"
}
