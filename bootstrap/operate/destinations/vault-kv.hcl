# What a destination of type vault_kv needs in the Vault that it publishes to, for
# values below smvm/ of the KV engine at secret/. It deletes nothing, and can't.
#
#   vault policy write smvm-destination bootstrap/operate/destinations/vault-kv.hcl
#   vault write auth/approle/role/smvm-destination token_policies=smvm-destination token_ttl=1m

path "secret/data/smvm/*" {
  capabilities = ["create", "read", "update"]
}

# The mark of what is published by smvm is in custom_metadata.
path "secret/metadata/smvm/*" {
  capabilities = ["create", "read", "update"]
}
