#!/usr/bin/env bash
# install.sh installs the configuration of a Vault Agent for smvm-api, its templates and
# the units of systemd. If you run it again, it replaces them.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
# shellcheck source=bootstrap/rooted.sh
. ../../rooted.sh
# shellcheck source=bootstrap/client.sh
. ../../client.sh

usage() {
	cat <<'USAGE'
usage: install.sh [options] [ROLE]

Run it as root on the application's machine, with VAULT_ADDR set. If Vault has a
private CA, also set VAULT_CACERT: install.sh copies the CA for the Agent. With
BAO_ADDR, the units run /usr/local/bin/bao instead of /usr/local/bin/vault.
ROLE is the engine's role; default if you leave it out.

  -db SECRET   name of the role's database secret; db by default. .env has its fields
               as DB_ settings. '' if the role has no such secret
  -jwt SECRET  name of its JWT secret; jwt by default. secrets.yaml has its fields
               as jwt_ settings. '' if the role has no such secret
  -api SECRET  name of its API key; api by default. secrets.yaml has its fields
               as api_ settings. '' if the role has no such secret
  -path PATH   where the engine is mounted; smvm by default
  -dir DIR     directory for the configuration, which the application's user only
               reads; /etc/smvm-api by default. It must be root's, and stay so
  -units DIR   directory for the units of systemd; /etc/systemd/system by default,
               none to install no units
USAGE
}

die() {
	printf 'install.sh: %s\n' "$1" >&2
	exit 1
}

dir=/etc/smvm-api units=/etc/systemd/system path=smvm role='' db=db jwt=jwt api=api
while [ $# -gt 0 ]; do
	case $1 in
	-h | -help | --help)
		usage
		exit
		;;
	-db | -jwt | -api | -path | -dir | -units)
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
role=${role:-default} path=${path%/}
[[ $role$db$jwt$api =~ ^[A-Za-z0-9._-]+$ ]] || die "'$role', '$db', '$jwt', '$api': names of roles and secrets have only letters, digits, and ._-"
[[ $path =~ ^[A-Za-z0-9._/-]+$ ]] || die "-path: '$path' is no path of Vault"
[[ ${VAULT_ADDR-} =~ ^https?://[][A-Za-z0-9._:/-]+$ ]] || die 'VAULT_ADDR has to be the address of Vault, such as https://vault.example.com:8200'

targets=("$dir" "$dir/templates") unit_files=()
[ "$units" = none ] || targets+=("$units") unit_files=(systemd/*)
for target in "${targets[@]}"; do
	rooted "$target"
	(umask 022 && mkdir -p -- "$target")
	rooted "$target"
done
for file in *.hcl templates/*; do
	put "$dir/$file" 0644 <"$file"
done
for file in "${unit_files[@]}"; do
	sed "s|^ExecStart=/usr/local/bin/vault |ExecStart=/usr/local/bin/$client |" "$file" | put "$units/${file##*/}" 0644
done
environment="VAULT_ADDR=$VAULT_ADDR
SMVM_CREDS=$path/creds/$role
SMVM_DB=$db
SMVM_JWT=$jwt
SMVM_API=$api"
if [ -n "${VAULT_CACERT-}" ]; then
	# Only what is a certificate, since everybody can read the copy.
	certificates=$(sed -n '/^-----BEGIN CERTIFICATE-----/,/^-----END CERTIFICATE-----/p' -- "$VAULT_CACERT")
	[ -n "$certificates" ] || die "VAULT_CACERT is $VAULT_CACERT, which has no certificate in PEM"
	put "$dir/vault-ca.pem" 0644 <<<"$certificates"
	environment+=$'\n'VAULT_CACERT=$(realpath -ms -- "$dir")/vault-ca.pem
fi
put "$dir/vault-agent.env" 0644 <<<"$environment"
printf 'The Agent is configured in %s for the role %s; enroll.sh gives it its login.\n' "$dir" "$role"
