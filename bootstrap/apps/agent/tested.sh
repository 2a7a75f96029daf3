#!/usr/bin/env bash
# tested.sh acts on the outcome of the tests of a version. If they passed, it only says
# so. Otherwise it has the engine roll that version back. The engine refuses if the role
# has another version by then, or if a rollback made this one: values that both fail their
# tests would replace each other for ever. tested.sh logs in with the files of enroll.sh
# -tests, whose token may do nothing else.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: tested.sh [options] CREDS VERSION OUTCOME…

Needs curl, jq and VAULT_ADDR; if Vault has a private CA, also VAULT_CACERT. CREDS
is the path that the application reads, such as smvm/creds/default, and VERSION is
the SMVM_VERSION that was tested. If OUTCOME is success, nothing changes. Any other
OUTCOME has the version rolled back, and is in the reason that the history records.

  -dir DIR          directory with role_id and secret_id; /etc/smvm-api/tests by
                    default
  -timeout SECONDS  how long to try again while Vault does not answer, or another
                    operation of the role is under way; 60 by default
USAGE
}

die() {
	printf 'tested.sh: %s\n' "$1" >&2
	exit 1
}

dir=/etc/smvm-api/tests timeout=60
while [ $# -gt 0 ]; do
	case $1 in
	-h | -help | --help)
		usage
		exit
		;;
	-dir | -timeout)
		printf -v "${1#-}" %s "${2:?$1 needs a value}"
		shift 2
		;;
	-*) die "$1 is no option; see -help" ;;
	*) break ;;
	esac
done
[ $# -ge 3 ] || die 'CREDS, VERSION or OUTCOME is missing; see -help. Nothing was rolled back'
creds=$1 version=$2 outcome=${*:3}
[[ $creds == */creds/* ]] || die "$creds is not what an application reads, such as smvm/creds/default"
[[ $version =~ ^[1-9][0-9]*$ ]] || die "'$version' is no version; nothing was rolled back"
if [ "$3" = success ]; then
	printf 'tested.sh: version %s of %s has passed the tests, and stays.\n' "$version" "$creds"
	exit
fi
: "${VAULT_ADDR:?is not set}"

curl=(curl -sS --max-time 70 -w '\n%{http_code}')
# Over http, a proxy that the environment names would read the login.
[[ ${VAULT_ADDR,,} == https://* ]] || curl+=(--noproxy '*')
[ -z "${VAULT_CACERT-}" ] || curl+=(--cacert "$VAULT_CACERT")

# ask PATH [TOKEN] sends the JSON of standard input, and leaves the answer in $answer. It
# fails if a later request may succeed. If Vault refuses for good, it ends the script.
ask() {
	local code
	answer=$("${curl[@]}" --data @- -H @<(printf 'X-Vault-Request: true\n%s' "${2:+X-Vault-Token: $2}") "$VAULT_ADDR/v1/$1") || return
	code=${answer##*$'\n'} answer=${answer%$'\n'*}
	case $code in
	200) ;;
	409 | 412 | 429 | 5??) return 1 ;;
	*) die "version $version of $creds has failed the tests ($outcome). Vault refuses $1 ($code): $(jq -r '(.errors // []) | join("; ")' <<<"$answer")" ;;
	esac
}

# roll_back asks for the rollback once.
roll_back() {
	ask auth/approle/login < <(jq -n --rawfile role "$dir/role_id" --rawfile secret "$dir/secret_id" \
		'{role_id: $role, secret_id: $secret} | map_values(rtrimstr("\n"))') || return
	ask "${creds%/creds/*}/rollback/${creds##*/creds/}" "$(jq -r .auth.client_token <<<"$answer")" < <(jq -n --argjson version "$version" \
		--arg reason "tests on ${HOSTNAME-} of version $version: $outcome" '{if_version: $version, $reason, wait: 60}')
}

until roll_back; do
	[ "$SECONDS" -lt "$timeout" ] || die "version $version of $creds has failed the tests ($outcome), and Vault has not rolled it back within $timeout s: ${answer:-it does not answer}"
	sleep 2
done
jq -r --arg version "$version" --arg outcome "$outcome" \
	'"tested.sh: version \($version) has failed the tests (\($outcome)). Rollback \(.data.rotation_id): \(.data.status), version \(.data.version)."' <<<"$answer"
