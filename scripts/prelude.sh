# shellcheck shell=bash
# Sourced by the scripts beside it: what all of them share. A script that
# promises a path on stdout prints nothing else there, so everything said to a
# person goes to stderr.
set -euo pipefail

# shellcheck disable=SC2034 # for the scripts that source this
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What one clone has compiled, no other one compiles again.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-trimpath"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
	say "$*"
	exit 1
}

# cache_dir prints where this project keeps what is slow to make: outside the
# clone, so that every clone on the machine shares it.
cache_dir() { printf '%s/smvm' "${XDG_CACHE_HOME:-$HOME/.cache}"; }

# lock DIR waits until no other run works on DIR, and holds it until this
# script ends. Children that may outlive the script must close fd 9.
lock() {
	mkdir -p "$(dirname "$1")"
	exec 9>"$1.lock"
	flock -n 9 && return
	say "another run is making ${1##*/}, waiting for it"
	flock 9
}

# as_root COMMAND… runs it as root: directly, or through sudo where that asks
# nothing. Returns 127 where neither is possible.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif sudo -n true 2>/dev/null; then
		sudo -n "$@"
	else
		return 127
	fi
}

# apt_install PACKAGE… installs Debian packages, or dies naming the command
# that a person has to run.
apt_install() {
	local wanted="apt-get update && apt-get install -y $*"
	command -v apt-get >/dev/null ||
		die "this needs $* and there is no apt-get here: install it with the system's own package manager"
	say "installing $* ($wanted); this can take some minutes"
	{ apt_get update && apt_get install -y --no-install-recommends "$@"; } ||
		die "could not install $*; run as root: $wanted"
}

# apt_get ARGUMENTS… runs apt-get, whose many words matter only if it fails. While
# somebody else runs it, this waits, ten minutes at most.
apt_get() {
	local words deadline=$((SECONDS + 600))
	until words=$(as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -qq "$@" 2>&1 9>&-); do
		if [[ $words != *'Could not get lock'* || $SECONDS -ge $deadline ]]; then
			printf '%s\n' "$words" >&2
			return 1
		fi
		sleep 2
	done
}

# need COMMAND PACKAGE… installs the packages unless COMMAND is there already.
need() { command -v "$1" >/dev/null || apt_install "${@:2}"; }

# follow PID WHAT returns with PID's status when it ends, and says every 15
# seconds that it has not ended yet.
follow() {
	local began=$SECONDS
	until timeout 15 tail --pid="$1" -f /dev/null 9>&-; do
		say "still $2 ($((SECONDS - began)) s)"
	done
	wait "$1"
}

# build_tool DIR PACKAGE OUT [FLAG…] builds PACKAGE of the module in DIR to
# OUT. OUT appears complete or not at all.
build_tool() {
	local dir=$1 package=$2 out=$3 part=$3.part.$$ build
	shift 3
	mkdir -p "$(dirname "$out")"
	(cd "$dir" && exec go build -mod=readonly -trimpath -buildvcs=false "$@" -o "$part" "$package") >&2 9>&- &
	build=$!
	# shellcheck disable=SC2064 # the values of now
	trap "kill $build 2>/dev/null || true; rm -f '$part'" EXIT
	follow "$build" "building ${package##*/}" || die "building $package did not succeed; its messages are above"
	mv "$part" "$out"
	trap - EXIT
}

# module_version GOMOD MODULE prints the version that GOMOD requires of MODULE.
module_version() {
	awk -v module="$2" '$1 == module && $2 ~ /^v/ { print $2; exit }' "$1"
}
