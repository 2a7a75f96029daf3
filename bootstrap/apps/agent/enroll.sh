#!/usr/bin/env bash
# enroll.sh gives an application on this machine its login to Vault: a policy for its
# role only, an AppRole, and two files, with which a Vault Agent, the application or
# tested.sh logs in. If you run it again, it makes a new secret id. The old one stays
# valid, so that nothing that runs is interrupted.
set -euo pipefail
here=$(pwd -P)
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
# shellcheck source=bootstrap/rooted.sh
. ./rooted.sh
# shellcheck source=bootstrap/client.sh
. ./client.sh

usage() {
	cat <<'USAGE'
usage: enroll.sh [options] ROLE

Run it on the application's machine, with VAULT_ADDR set (BAO_ADDR for
OpenBao). ROLE is the engine's role, such as default; it has to exist.

  -dir DIR      directory for the files role_id and secret_id; /etc/smvm-api by
                default. If root runs enroll.sh, the directory must be root's
  -owner USER   owner of the two files; by default the user who runs enroll.sh
  -name NAME    name of policy and AppRole; smvm-application-ROLE by default
  -path PATH    where the engine is mounted; smvm by default
  -bound CIDRS  addresses that may log in, such as 10.0.0.7/32; any by default
  -tests        make a login for tested.sh, which may roll the role back and do
                nothing else. The defaults are then /etc/smvm-api/tests for -dir
                and smvm-tester-ROLE for -name

VAULT_TOKEN needs:

  PATH/roles/ROLE                   read
  sys/policies/acl/NAME             create, update
  auth/approle/role/NAME            create, update
  auth/approle/role/NAME/role-id    read
  auth/approle/role/NAME/secret-id  create, update
  sys/auth                          read
  sys/auth/approle                  create, update, sudo

The last path is needed only if AppRole is not enabled in Vault: enroll.sh enables it.
USAGE
}

die() {
	printf 'enroll.sh: %s\n' "$1" >&2
	exit 1
}

dir='' owner='' name='' path=smvm bound='' role='' policy=application default=/etc/smvm-api
# Agents renew their token; tested.sh uses one for a moment, and only for that.
terms=(token_period=1h token_no_default_policy=false)
while [ $# -gt 0 ]; do
	case $1 in
	-h | -help | --help)
		usage
		exit
		;;
	-tests)
		policy=tester default=/etc/smvm-api/tests terms=(token_period=0 token_ttl=5m token_no_default_policy=true)
		;;
	-dir | -owner | -name | -path | -bound)
		[ $# -gt 1 ] || die "$1 needs a value"
		printf -v "${1#-}" %s "$2"
		shift
		;;
	-*) die "$1 is no option; see -help" ;;
	*)
		[ -z "$role" ] || die "one role at a time: $role, $1"
		role=$1
		;;
	esac
	shift
done
dir=${dir:-$default}
[[ $dir == /* ]] || dir=$here/$dir
[[ $role =~ ^[A-Za-z0-9._-]+$ ]] || die 'name one role of the engine; see -help'
name=${name:-smvm-$policy-$role} path=${path%/}

# Before anything is made or replaced, in Vault and here.
[[ $owner =~ ^[0-9:]*$ ]] || id -- "${owner%%:*}" >/dev/null 2>&1 ||
	die "-owner: there is no user '${owner%%:*}' on this machine. Make one, such as by: useradd -r ${owner%%:*}. Nothing was changed"
rooted "$dir"
if ! answer=$(vault read "$path/roles/$role" 2>&1 >/dev/null); then
	case $answer in
	*'No value found'*) die "there is no role '$role' in $path/; this lists all: $client list $path/roles. Nothing was changed" ;;
	*) die "can't read the role '$role'. Nothing was changed. $client says: $answer" ;;
	esac
fi

# text prints the policy for this role and mount. Only the role default has the bare path.
text() {
	local bare='/^path "smvm\/creds" {/,/^}/d'
	[ "$role" != default ] || bare=''
	sed -e '/^#/d' -e "$bare" -e "s/default/$role/" -e "s|\"smvm/|\"$path/|" "install/policies/$policy.hcl"
}

text | vault policy write "$name" - >/dev/null
# enabled is asked again, because somebody else may just have done it.
enabled() { [[ $(vault auth list) == *approle/* ]]; }
enabled || vault auth enable approle >/dev/null || enabled
vault write "auth/approle/role/$name" token_policies="$name" "${terms[@]}" \
	secret_id_bound_cidrs="$bound" token_bound_cidrs="$bound" >/dev/null

role_id=$(vault read -field=role_id "auth/approle/role/$name/role-id")
secret_id=$(vault write -f -field=secret_id "auth/approle/role/$name/secret-id")
# The files are nobody's but the owner's, who has to reach them.
(umask 022 && mkdir -p -- "$dir")
rooted "$dir"
put "$dir/role_id" 0600 "$owner" <<<"$role_id"
put "$dir/secret_id" 0600 "$owner" <<<"$secret_id"
printf '%s is for the role %s of %s/; its login is in %s.\n' "$name" "$role" "$path" "$dir"
