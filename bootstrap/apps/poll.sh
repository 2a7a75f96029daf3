#!/usr/bin/env bash
# poll.sh keeps a JSON file with the credentials of a role current, with nothing
# but curl and jq, and runs a command when a new version is in it:
#
#   VAULT_ADDR=… VAULT_TOKEN_FILE=… poll.sh smvm/creds/orders creds.json COMMAND…
#
# If BAO_ADDR and BAO_TOKEN_FILE are set, poll.sh uses them instead.
# It reads again after ttl, with if_version, and keeps the file as it is while
# Vault does not answer. The token is in a file, never in arguments; keeping it
# valid is somebody else's job. Run it as the user that reads the file; as root it
# writes only where nobody else can.
set -euo pipefail
# shellcheck source=bootstrap/rooted.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../rooted.sh"
# shellcheck source=bootstrap/client.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../client.sh"

[ $# -ge 2 ] || {
	echo 'usage: poll.sh PATH FILE [COMMAND…]; VAULT_ADDR and VAULT_TOKEN_FILE are to be set' >&2
	exit 2
}
: "${VAULT_ADDR:?is not set}" "${VAULT_TOKEN_FILE:?is not set}"
path=$1 file=$2
shift 2
umask 077
rooted "$(dirname -- "$file")"

# Over http, a proxy that the environment names would read token and values.
direct=()
[[ ${VAULT_ADDR,,} == https://* ]] || direct=(--noproxy '*')

# Refuses a response that creds never gives to a reader with version $have, or with none.
# shellcheck disable=SC2016
readonly sound='
def whole($least): type == "number" and . == floor and . >= $least;
def values: del(.last_vault_rotation, .next_vault_rotation) | map(select(type == "string"));
.data | if type == "object" and (.version | whole(1)) and (.ttl | whole(0)) and
	(if .changed == false then (.version | tostring) == $have else values != [] end)
then . else error("this is no answer of creds") end'

# read_creds [VERSION] prints what creds answers, unless that is still the version.
read_creds() {
	curl -fsS --max-time 20 "${direct[@]}" -H @<(printf 'X-Vault-Token: %s\nX-Vault-Request: true\n' "$(<"$VAULT_TOKEN_FILE")") \
		"$VAULT_ADDR/v1/$path${1:+?if_version=$1}" |
		head -c 1048576 | jq -e --arg have "$1" "$sound"
}

version='' rotated='' overlap=''
while :; do
	# The end of previous values makes no new version. So while there are any, read
	# everything.
	if ! answer=$(read_creds "$([ -n "$overlap" ] || echo "$version")"); then
		sleep 2
		continue
	fi
	# After Vault was restored from a snapshot, a rotation makes a version that there was
	# before.
	if [ "$(jq .changed <<<"$answer")" = false ] && [ "$(jq .last_vault_rotation <<<"$answer")" != "$rotated" ]; then
		version=''
		continue
	fi
	if [ "$(jq .changed <<<"$answer")" != false ]; then
		rooted "$(dirname -- "$file")"
		jq . <<<"$answer" | put "$file" 0600
		overlap=$(jq -r 'keys[] | select(contains("_previous_"))' <<<"$answer")
	fi
	now=$(jq .version <<<"$answer") before=$rotated rotated=$(jq .last_vault_rotation <<<"$answer")
	if [ "$now $rotated" != "$version $before" ]; then
		version=$now
		[ $# -eq 0 ] || "$@" || echo "poll.sh: the command did not succeed" >&2
	fi
	sleep "$(jq '[.ttl, 86399] | min + 1' <<<"$answer")"
done
