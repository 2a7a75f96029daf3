# shellcheck shell=bash
# Sourced by the scripts beside it: which command they talk to Vault with. It is
# OpenBao's, bao, where BAO_ADDR says so or there is no vault. OpenBao's variables, such
# as BAO_ADDR and BAO_TOKEN, count as Vault's, which both commands read.
for variable in "${!BAO_@}"; do
	export "VAULT_${variable#BAO_}=${!variable}"
done
# The scripts read what the command prints by default.
unset variable VAULT_FORMAT BAO_FORMAT

client=vault
if command -v bao >/dev/null && { [ -n "${BAO_ADDR-}" ] || ! command -v vault >/dev/null; }; then
	client=bao
fi

vault() { command "$client" "$@"; }
