#!/usr/bin/env bash
# enroll.sh gives one instance of an application its login to Vault: a policy for its
# role only, an AppRole that no other instance has, and two files, with which a Vault
# Agent, the application or tested.sh logs in. If you run it again, it makes a new secret
# id. The old ones stay valid, so that nothing that runs is interrupted; -rotate destroys
# them, after a login with the new one has succeeded.
set -euo pipefail
here=$(pwd -P)
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
# shellcheck source=bootstrap/rooted.sh
. ./rooted.sh
# shellcheck source=bootstrap/client.sh
. ./client.sh

usage() {
	cat <<'USAGE'
usage: enroll.sh [options] ROLE            give this machine its login
       enroll.sh -rotate [options] ROLE    replace the secret id of that login
       enroll.sh -list [options] ROLE      list the secret ids of all machines by age

Run it on the application's machine, with VAULT_ADDR set (BAO_ADDR for
OpenBao). ROLE is the engine's role, such as default; it has to exist.

  -instance INSTANCE
                 name of this instance; the machine's host name by default. Each
                 instance of a role needs a name of its own
  -dir DIR       directory for the files role_id and secret_id; /etc/smvm-api by
                 default. If root runs enroll.sh, the directory must be root's.
                 enroll.sh locks the file .enroll.lock in it
  -owner USER    owner of the two files; by default the user who runs enroll.sh,
                 and with -rotate the owner that secret_id has
  -name NAME     name of the policy; smvm-application-ROLE by default. The AppRole
                 and its entity in Vault are called NAME-INSTANCE
  -path PATH     where the engine is mounted; smvm by default
  -bound CIDRS   addresses that may log in, such as 10.0.0.7/32; any by default
  -tests         make a login for tested.sh, which may roll the role back and do
                 nothing else. The defaults are then /etc/smvm-api/tests for -dir
                 and smvm-tester-ROLE for -name

-rotate makes a secret id, logs in with it, writes it to the file, and then destroys
all other secret ids of the AppRole. Until then, both work. If it was interrupted, run
it again. It ends no token: the Agent goes on with the one that it has.

VAULT_TOKEN needs, to give a login:

  PATH/roles/ROLE                          read
  sys/policies/acl/NAME                    create, update
  auth/approle/role/NAME-INSTANCE          create, update
  sys/auth                                 read
  sys/auth/approle                         create, update, sudo
  identity/entity/name/NAME-INSTANCE       create, read, update
  identity/entity-alias                    create, update

sys/auth/approle is needed only if AppRole is not enabled in Vault: enroll.sh enables
it. The last two paths give the instance's entity its name, which the engine's status
shows. Without them, enroll.sh warns, and the name is one that Vault makes up. Whoever
may write identity/entity-alias can give their own login the entity of somebody else.

To give a login, and for -rotate:

  auth/approle/role/NAME-INSTANCE/role-id                     read
  auth/approle/role/NAME-INSTANCE/secret-id                   create, update, list
  auth/approle/role/NAME-INSTANCE/secret-id-accessor/destroy  update
  sys/wrapping/unwrap                                         update
  sys/capabilities                                            update
  auth/token/revoke                                           update

For -list:

  auth/approle/role                              list
  auth/approle/role/+                            read
  auth/approle/role/+/secret-id                  list
  auth/approle/role/+/secret-id-accessor/lookup  update
USAGE
}

die() {
	printf 'enroll.sh: %s\n' "$1" >&2
	exit 1
}

# vault is Vault's client. In place of a denial, it says what VAULT_TOKEN may not do.
vault() {
	local status=0 messages what
	{ messages=$(command "$client" "$@" 2>&1 >&3) || status=$?; } 3>&1
	what=$(sed -n 's|^URL: GET .*/v1/\(.*\)?list=true|list \1|p; t; s|^URL: GET .*/v1/|read |p; s|^URL: P[A-Z]* .*/v1/|write |p' <<<"$messages")
	case $messages in
	*'invalid token'*) messages='VAULT_TOKEN has expired, or is of another Vault (403, invalid token)' ;;
	*'permission denied'*)
		[ -z "$what" ] || messages="VAULT_TOKEN may not $what, or there is no such path (403, permission denied). enroll.sh -help lists what the token needs"
		;;
	esac
	[ -z "$messages" ] || printf '%s\n' "$messages" >&2
	return $status
}

dir='' owner='' name='' path=smvm bound='' role='' instance='' mode=enroll
policy=application default=/etc/smvm-api capability=read endpoint=creds
# Agents renew their token; tested.sh uses one for a moment, and only for that.
terms=(token_period=1h token_no_default_policy=false)
while [ $# -gt 0 ]; do
	case $1 in
	-h | -help | --help)
		usage
		exit
		;;
	-rotate | -list) mode=${1#-} ;;
	-tests)
		policy=tester default=/etc/smvm-api/tests capability=update endpoint=rollback
		terms=(token_period=0 token_ttl=5m token_no_default_policy=true)
		;;
	-dir | -owner | -name | -path | -bound | -instance)
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
instance=${instance:-$HOSTNAME}
[[ $instance =~ ^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$ ]] ||
	die "-instance: '$instance' has to begin and end with a letter or a digit, and to have only letters, digits, and ._-"
name=${name:-smvm-$policy-$role} path=${path%/}
# Vault writes the names of policies and AppRoles in lower case.
name=${name,,} approle=${name,,}-${instance,,}
at=auth/approle/role/$approle

# field prints a field of a table of Vault's, and keys what a path lists.
field() { sed -n "s/^$1  *//p"; }
keys() {
	local found
	if found=$(vault list "$1" 2>&1); then
		sed '1,/^----/d' <<<"$found"
	elif [[ $found != *'No value found'* ]]; then
		die "can't list $1. $client says: $found"
	fi
}

# list prints the secret ids of the role's AppRoles, the oldest first.
list() {
	local layout='%-10s %5s  %-40s %-20s %-36s  %s\n' now all each from ids id found made
	# shellcheck disable=SC2059 # the format is right above
	printf "$layout" created days AppRole 'made on' accessor 'may log in from'
	now=$(date +%s%N) all=$(keys auth/approle/role)
	for each in $all; do
		# AppRoles from before there were instances have the name of the policy. The name
		# of another role may begin in the same way; its policy is another one.
		[[ $each == "$name" || $each == "$name"-* ]] || continue
		found=$(vault read "auth/approle/role/$each")
		[ "$(field token_policies <<<"$found")" = "[$name]" ] || continue
		from=$(field secret_id_bound_cidrs <<<"$found" | sed 's/^<nil>$//; s/[][]//g')
		ids=$(keys "auth/approle/role/$each/secret-id")
		for id in $ids; do
			found=$(vault write "auth/approle/role/$each/secret-id-accessor/lookup" secret_id_accessor="$id")
			made=$(date -d "$(field creation_time <<<"$found")" +%s%N)
			# shellcheck disable=SC2059 # the format is right above
			printf "$made $layout" "$(date -d "@${made%?????????}" +%F)" $(((now - made) / 86400000000000)) "$each" \
				"$(field metadata <<<"$found" | sed 's/.*host:\([^] ]*\).*/\1/; t; s/.*/-/')" "$id" "${from:-any}"
		done
	done | sort -n | cut -d ' ' -f 2-
}

if [ "$mode" = list ]; then
	list
	exit
fi

# Before anything is made or replaced, in Vault and here.
[[ $owner =~ ^[0-9:]*$ ]] || id -- "${owner%%:*}" >/dev/null 2>&1 ||
	die "-owner: there is no user '${owner%%:*}' on this machine. Make one, such as by: useradd -r ${owner%%:*}. Nothing was changed"
[[ ${bound// /} =~ ^([0-9A-Fa-f.:]+/[0-9]+(,|$))*$ ]] ||
	die "-bound: '$bound' has to be networks, separated by commas. A single address is one with /32, such as 10.0.0.7/32. Nothing was changed"
rooted "$dir"
if [ "$mode" = enroll ] && ! answer=$(vault read "$path/roles/$role" 2>&1); then
	case $answer in
	*'No value found'*) die "there is no role '$role' in $path/; this lists all: $client list $path/roles. Nothing was changed" ;;
	*) die "can't read the role '$role'. Nothing was changed. $client says: $answer" ;;
	esac
fi
secrets=$(field secrets <<<"${answer-}")
if [ "$mode" = enroll ]; then
	# The files are nobody's but the owner's, who has to reach them.
	(umask 022 && mkdir -p -- "$dir")
	rooted "$dir"
fi
[ -d "$dir" ] || die "there is no directory $dir, so there is no login to replace. Run enroll.sh without -rotate. Nothing was changed"

# One enroll.sh at a time works on the login. The lock is a file that nobody else can
# open: whoever can open a file, or a directory, can hold a lock on it.
lock=$dir/.enroll.lock
if [ -L "$lock" ] || { [ -e "$lock" ] && { [ ! -f "$lock" ] || [ ! -O "$lock" ]; }; }; then
	die "$lock is no file of $(id -un)'s. Delete it when no enroll.sh runs. Nothing was changed"
fi
(umask 077 && : >>"$lock") || die "$(id -un) can't write in $dir. Nothing was changed"
exec 9>>"$lock"
flock -n 9 || die "another enroll.sh is writing to $dir. Nothing was changed"

# The application can write to this file, and so it is read only as far as a role id goes.
# Whatever else lies there, such as a FIFO, is not read.
before=''
[ ! -f "$dir/role_id" ] || [ -L "$dir/role_id" ] || IFS= read -r -n 256 before <"$dir/role_id" || true
if ! role_id=$(vault read -field=role_id "$at/role-id" 2>&1); then
	[[ $role_id == *'No value found'* || $role_id == *'no handler for route'* ]] ||
		die "can't read $at/role-id. Nothing was changed. $client says: $role_id"
	role_id=''
fi

# text prints the policy for this role and mount. Only the role default has the bare path.
text() {
	local bare='/^path "smvm\/creds" {/,/^}/d'
	[ "$role" != default ] || bare=''
	sed -e '/^#/d' -e "$bare" -e "s/default/$role/" -e "s|\"smvm/|\"$path/|" "install/policies/$policy.hcl"
}

# entity gives the entity of the AppRole's logins its name. Without an entity of its own,
# Vault would make one up at the first login.
entity() {
	local id
	vault write -f "identity/entity/name/$approle" >/dev/null &&
		id=$(vault read -field=id "identity/entity/name/$approle") &&
		printf '{"name":"%s","canonical_id":"%s","mount_accessor":"%s"}' "$role_id" "$id" "$1" |
		vault write identity/entity-alias - >/dev/null
}

# define makes or changes the policy, the AppRole and its entity.
define() {
	local answer ids mount
	if [ -n "$role_id" ] && [ "$before" != "$role_id" ]; then
		ids=$(keys "$at/secret-id")
		[ -z "$ids" ] || die "there is a login of the AppRole $approle already, and it is not the one in $dir. If another instance has it, name this one by -instance. If this instance has lost it, delete it: $client delete $at; $client delete identity/entity/name/$approle. Nothing was changed"
	fi

	text | vault policy write "$name" - >/dev/null
	mount=$(accessor)
	if [ -z "$mount" ]; then
		vault auth enable approle >/dev/null || true # somebody else may just have done it
		mount=$(accessor)
	fi
	vault write "$at" token_policies="$name" "${terms[@]}" secret_id_bound_cidrs="$bound" token_bound_cidrs="$bound" >/dev/null
	[ -n "$role_id" ] || role_id=$(vault read -field=role_id "$at/role-id")
	answer=$(entity "$mount" 2>&1) ||
		printf 'enroll.sh: the entity of %s has no name, so the status of the engine shows one that Vault makes up. If there was such an AppRole before, run: %s delete identity/entity/name/%s; then enroll.sh again. %s says: %s\n' \
			"$approle" "$client" "$approle" "$client" "$answer" >&2
}

# accessor prints the accessor of the auth method.
accessor() { vault auth list | sed -n 's|^approle/  *[^ ]*  *\([^ ]*\).*|\1|p'; }

# new is the accessor of a secret id that is in no file yet. If that is as far as it
# gets, nobody needs it.
new=''
trap '[ -z "$new" ] || destroy "$new"' EXIT
destroy() { vault write "$at/secret-id-accessor/destroy" secret_id_accessor="$1" >/dev/null; }

# secret makes a secret id, and logs in with it from this machine, which has to give a
# token that may do what it is for. It leaves it in secret_id. The application reads the
# values: if this did, the engine would take that for a read of the application's.
secret() {
	local wrapped made token may
	wrapped=$(vault write -wrap-ttl=60s -field=wrapping_token "$at/secret-id" metadata="{\"host\":\"${HOSTNAME//[^A-Za-z0-9._-]/}\"}")
	made=$(printf %s "$wrapped" | vault write sys/wrapping/unwrap token=-)
	new=$(field secret_id_accessor <<<"$made") secret_id=$(field secret_id <<<"$made")
	# A denial of the login says nothing about VAULT_TOKEN.
	token=$(printf '{"role_id":"%s","secret_id":"%s"}' "$role_id" "$secret_id" | command "$client" write -field=token auth/approle/login -) ||
		die "this machine can't log in with a new secret id of $approle. The files in $dir are as they were"
	may=$(printf '{"token":"%s","paths":["%s"]}' "$token" "$path/$endpoint/$role" | vault write -field=capabilities sys/capabilities -)
	printf %s "$token" | vault write auth/token/revoke token=- >/dev/null
	[[ $may == *"$capability"* ]] ||
		die "a login of $approle may not $capability $path/$endpoint/$role, so its policy is another one. Run enroll.sh without -rotate. The files in $dir are as they were"
}

if [ "$mode" = enroll ]; then
	define
elif [ -z "$role_id" ] || [ "$before" != "$role_id" ]; then
	die "the login in $dir is not of the AppRole $approle. Run enroll.sh without -rotate, or with the -instance that the login is of. Nothing was changed"
elif [ -z "$owner" ]; then
	owner=$(stat -c %u:%g -- "$dir/secret_id")
fi
secret
kept=$new new=''
[ "$before" = "$role_id" ] || put "$dir/role_id" 0600 "$owner" <<<"$role_id"
put "$dir/secret_id" 0600 "$owner" <<<"$secret_id"

if [ "$mode" = rotate ]; then
	ids=$(keys "$at/secret-id")
	for id in $ids; do
		[ "$id" = "$kept" ] || destroy "$id"
	done
	printf '%s has a new secret id in %s, and no other one works.\n' "$approle" "$dir"
	exit
fi
printf '%s is for the role %s of %s/; its login is in %s.\n' "$approle" "$role" "$path" "$dir"
for each in db jwt api; do
	[[ $policy != application || "${secrets//[][]/ } " == *" $each "* ]] ||
		printf 'The role has no secret %s. For the Agent kit, run install.sh -%s NAME, or -%s '"''"' if it has none of that kind. Its secrets: %s\n' "$each" "$each" "$each" "$secrets"
done
if [ "$before" = "$role_id" ]; then
	printf 'Its secret ids from before still work. To destroy them: enroll.sh -rotate\n'
elif [ -n "$before" ]; then
	printf 'The login from before is of another AppRole, which stays. Delete that when no machine uses it. If it has no instance in its name: %s delete auth/approle/role/%s\n' "$client" "$name"
fi
