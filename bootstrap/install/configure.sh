#!/usr/bin/env bash
# configure.sh installs the plugin into a Vault that is running, or upgrades it:
# copy the binary, register it, enable the mount or move it to the new version,
# and check what runs in the end. Run a second time it changes nothing.
set -euo pipefail
# shellcheck source=bootstrap/rooted.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../rooted.sh"
# shellcheck source=bootstrap/client.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../client.sh"

usage() {
	cat <<'USAGE'
usage: configure.sh [options] BINARY

Run it on the Vault server, with VAULT_ADDR set (BAO_ADDR for OpenBao) and a token that
has the policy bootstrap/install/policies/installer.hcl. BINARY is copied as NAME_VERSION, so that an
upgrade never overwrites a file that runs.

  -version VERSION   version that the plugin reports, such as v0.1.0; may be left
                     out if BINARY's name ends in it ($SMVM_PLUGIN_VERSION)
  -checksums FILE    refuse a BINARY that FILE does not list, such as the SHA256SUMS of
                     a release, whose signature you have verified
                     ($SMVM_PLUGIN_CHECKSUMS)
  -plugin-dir DIR    plugin_directory of the server; asked from Vault if left out
                     ($SMVM_PLUGIN_DIR)
  -path PATH         where to mount the engine; smvm by default ($SMVM_PATH)
  -name NAME         name in Vault's catalog; vault-plugin-secrets-smvm by default
                     ($SMVM_PLUGIN_NAME)
  -copy-only         copy the binary and ask Vault nothing: for the other servers
                     of a cluster, which need the file before the mount moves

BINARY may be given as $SMVM_PLUGIN_BINARY instead.
USAGE
}

die() {
	printf 'configure.sh: %s\n' "$1" >&2
	[ $# -eq 1 ] || printf '  %s\n' "${@:2}" >&2
	exit 1
}

changed=no
did() {
	changed=yes
	printf '  changed    %s\n' "$*"
}
kept() { printf '  unchanged  %s\n' "$*"; }

binary=${SMVM_PLUGIN_BINARY:-}
version=${SMVM_PLUGIN_VERSION:-}
checksums=${SMVM_PLUGIN_CHECKSUMS:-}
dir=${SMVM_PLUGIN_DIR:-}
path=${SMVM_PATH:-smvm}
name=${SMVM_PLUGIN_NAME:-vault-plugin-secrets-smvm}
copy_only=no

parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		-h | -help | --help)
			usage
			exit
			;;
		-copy-only | --copy-only) copy_only=yes ;;
		-version | -checksums | -plugin-dir | -path | -name | --version | --checksums | --plugin-dir | --path | --name)
			[ $# -gt 1 ] || die "$1 needs a value"
			case ${1#-} in
			version | -version) version=$2 ;;
			checksums | -checksums) checksums=$2 ;;
			plugin-dir | -plugin-dir) dir=$2 ;;
			path | -path) path=$2 ;;
			*) name=$2 ;;
			esac
			shift
			;;
		-*) die "unknown option $1; configure.sh -help lists the options" ;;
		*) binary=$1 ;;
		esac
		shift
	done
	path=${path%/}
}

# ask COMMAND… leaves in $answer what the command printed: its output, or on
# failure its messages.
answer=
ask() {
	local status=0 messages
	messages=$(mktemp)
	answer=$("$@" 2>"$messages") || status=$?
	[ $status -eq 0 ] || answer=$(cat "$messages")
	rm -f "$messages"
	return $status
}

# ask_field FIELD PATH is ask for one field of what Vault has at a path.
ask_field() { ask vault read -field="$1" "$2"; }

# needs says which policy the token needs. The one of the project is for smvm/.
needs() {
	local policy=bootstrap/install/policies/installer.hcl
	if [ "$path" = smvm ]; then
		printf 'The token needs the policy %s:\n    %s policy write smvm-installer %s' "$policy" "$client" "$policy"
	else
		printf "The policy %s is for smvm/. For %s/, the token needs this one:\n    sed -E '%s' %s | %s policy write %s-installer -" \
			"$policy" "$path" "s#\"(sys/mounts/)?smvm([\"/])#\"\\1$path\\2#" "$policy" "$client" "${path//\//-}"
	fi
}

# failed WHAT dies, saying why Vault did not do what it was asked.
failed() {
	[[ $answer != *"permission denied"* ]] || die "Vault does not let this token $1." "$(needs)"
	die "could not $1: $answer"
}

# attempt WHAT COMMAND… runs a command that changes Vault, or dies saying why
# it did not.
attempt() {
	local what=$1 reported
	shift
	ask "$@" && return
	if [[ $answer == *"version mismatch"* ]]; then
		reported=${answer##*reported version (}
		reported=${reported%%)*}
		[ "$installed" = no ] || rm -f "$target"
		die "$binary is $reported and not $version. Run again with: -version $reported"
	fi
	failed "$what"
}

check_binary() {
	[ -n "$binary" ] || die "which binary? For example: bootstrap/install/configure.sh -version v0.1.0 bin/$name" \
		"(make build makes one; -help lists the options)"
	[ -f "$binary" ] || die "$binary is not a file; build it with: make build"
	[ -x "$binary" ] || die "$binary is not executable; run: chmod +x $binary"
	if [ -z "$version" ] && [[ ${binary##*/} =~ [_-](v[0-9]+\.[0-9]+\.[0-9]+[-+.0-9A-Za-z]*)$ ]]; then
		version=${BASH_REMATCH[1]}
	fi
	[ -n "$version" ] || die "which version is it? Run again with: -version v0.1.0, or what the release says"
	[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+ ]] || die "-version $version: Vault wants a leading v and three numbers, such as v0.1.0"
	sha256=$(sha256sum <"$binary" | cut -d ' ' -f 1)
	[ -z "$checksums" ] || check_listed
	check_plugin
}

# check_plugin refuses what is no plugin, and what is for another machine. It runs nothing:
# whoever can change the binary would have the token of whoever runs this.
check_plugin() {
	# What every plugin of Vault has to say to those who run it by hand.
	if ! grep -aqF 'This binary is a plugin' -- "$binary" || [ "$(machine "$binary")" != "$(machine "$BASH")" ]; then
		die "$binary is no plugin of Vault, or not for this machine. Nothing was changed. The plugin is called $name"
	fi
}

# machine prints what the header of a program says of the machine that it is for: what
# kind of file it is, the size of its words and the order of their bytes, and the processor.
machine() { od -An -tx1 -N 20 -- "$1" | tr -d ' \n' | cut -c 1-12,37-40; }

# check_listed refuses a binary that the list of checksums does not have.
check_listed() {
	[ -f "$checksums" ] || die "$checksums is not a file; it has to be the SHA256SUMS of the release"
	grep -q "^$sha256 [ *]" -- "$checksums" ||
		die "$binary is not in $checksums: it is another release's, or was changed. Nothing was installed." \
			"Its sha256 is $sha256; download it again"
}

check_vault() {
	[ -n "$(type -P "$client")" ] || die "there is no vault on PATH; install Vault's binary, which is also its command line"
	local status=0
	vault status >/dev/null 2>&1 || status=$?
	case $status in
	0) ;;
	2) die "Vault at ${VAULT_ADDR:-https://127.0.0.1:8200} is sealed; run: $client operator unseal" ;;
	*) die "$(vault status 2>&1 | head -n 3)" "no answer from Vault; set its address, for example: export VAULT_ADDR=http://127.0.0.1:8200" ;;
	esac
	vault token lookup >/dev/null 2>&1 || die "Vault does not know this token, or the token does not have Vault's policy default; run: $client login, or export VAULT_TOKEN"
}

# check_directory finds out where Vault looks for plugins.
check_directory() {
	local configured=
	if [ "$copy_only" = no ]; then
		if ask_field plugin_directory sys/config/state/sanitized; then
			configured=$answer
		elif [ -z "$dir" ] && [[ $answer == *"permission denied"* ]]; then
			die "Vault does not let this token ask where plugins are." "$(needs)" \
				"With another policy that lets it install plugins, run again with: -plugin-dir DIRECTORY"
		fi
	fi
	dir=${dir:-$configured}
	[ -n "$dir" ] || die "where does this Vault look for plugins? Run again with: -plugin-dir DIRECTORY" \
		"It is plugin_directory in the configuration of the server, which has to be restarted if that is missing."
	[ -d "$dir" ] || die "$dir is not a directory here; run this on the Vault server, or first: install -d -m 0755 $dir"
	given=$dir
	dir=$(realpath "$dir")
	if [ -n "$configured" ] && [ -d "$configured" ] && [ "$dir" != "$(realpath "$configured")" ]; then
		die "this Vault looks for plugins in $configured, not in $dir; run again with: -plugin-dir $configured"
	fi
}

installed=no
copy() {
	target=$dir/${name}_$version
	if [ -f "$target" ]; then
		[ "$(sha256sum "$target" | cut -d ' ' -f 1)" = "$sha256" ] ||
			die "$target exists and is another build of $version. A version, once installed, stays what it is:" \
				"build with a new one (make build VERSION=v0.1.1), or remove that file if no Vault ever ran it"
		kept "$target"
		return
	fi
	[ -w "$dir" ] || die "$dir is not writable for $(id -un); run this with sudo -E, or as the user that owns it"
	rooted "$given" || exit 1 # not only what it is a link to just now
	put "$target" 0755 <"$binary"
	installed=yes
	did "copied to $target"
}

register() {
	if ask vault plugin info -version="$version" -field=sha256 secret "$name"; then
		if [ "$answer" = "$sha256" ] &&
			ask vault plugin info -version="$version" -field=command secret "$name" && [ "$answer" = "${target##*/}" ]; then
			kept "catalog has $name $version"
			return
		fi
	elif [[ $answer != *"Code: 404"* ]]; then
		failed "read Vault's catalog of plugins"
	fi
	attempt "register the plugin" vault plugin register -sha256="$sha256" -command="${target##*/}" -version="$version" secret "$name"
	did "registered $name $version, sha256 ${sha256:0:16}…"
}

mount() {
	if ! ask_field type "sys/mounts/$path"; then
		[[ $answer == *"No secret engine mount"* ]] || failed "read what is mounted at $path/"
		# The headers are those with which verifiers ask for public keys.
		attempt "enable the engine" vault secrets enable -path="$path" -plugin-version="$version" \
			-passthrough-request-headers=Accept -passthrough-request-headers=If-None-Match \
			-allowed-response-headers=ETag -allowed-response-headers=Vary "$name"
		did "enabled at $path/"
		return
	fi
	[ "$answer" = "$name" ] || die "$path/ is an engine of type $answer; choose another place, for example: -path smvm2"
	ask_field plugin_version "sys/mounts/$path" || answer=
	if [ "$answer" = "$version" ]; then
		kept "$path/ is set to $version"
	else
		local was=${answer:-any version}
		attempt "change the version of the mount" vault secrets tune -plugin-version="$version" "$path/"
		did "$path/ is set to $version, it was $was"
	fi
	if ! runs; then
		# Not "vault plugin reload -mounts", which asks for a path that does not exist.
		attempt "reload the engine" vault write sys/plugins/reload/backend "mounts=$path/"
		did "reloaded $path/"
	fi
}

# runs tells whether the mount runs exactly the wanted binary, and leaves the
# version that runs in $answer.
runs() {
	ask_field running_sha256 "sys/mounts/$path" || return
	local running=$answer
	ask_field running_plugin_version "sys/mounts/$path" && [ "$answer" = "$version" ] && [ "$running" = "$sha256" ]
}

verify() {
	if ! ask vault read "$path/config"; then
		[[ $answer != *"permission denied"* ]] || failed "read $path/config"
		# Vault does not start an engine that has no entry in the catalog at the unseal.
		attempt "reload the engine" vault write sys/plugins/reload/backend "mounts=$path/"
		did "reloaded $path/"
		ask vault read "$path/config" || die "the engine at $path/ does not answer: $answer"
	fi
	runs || die "$path/ runs another version or binary ($answer) than $version; see:" \
		"vault read sys/mounts/$path" "vault plugin info -version=$version secret $name"
	printf '%s/ runs %s %s' "$path" "$name" "$version"
	if [ "$changed" = yes ]; then
		printf '.\n'
	else
		printf ' already. Nothing was changed.\n'
	fi
}

parse "$@"
check_binary
[ "$copy_only" = yes ] || check_vault
check_directory
copy
[ "$copy_only" = no ] || exit 0
register
mount
verify
