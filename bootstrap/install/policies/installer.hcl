# What bootstrap/install/configure.sh needs to install or upgrade the engine at smvm/.
# Whoever can register plugins can run programs on the Vault server: give this
# to nobody permanently. For another mount, put its path in place of smvm in the three
# paths that begin with sys/mounts/smvm or smvm/.

path "sys/plugins/catalog/secret/vault-plugin-secrets-smvm" {
  capabilities = ["create", "read", "update", "sudo"]
}

path "sys/mounts/smvm" {
  capabilities = ["create", "read", "update"]
}

path "sys/mounts/smvm/tune" {
  capabilities = ["read", "update"]
}

path "sys/plugins/reload/backend" {
  capabilities = ["update", "sudo"]
}

# Optional: it saves giving -plugin-dir.
path "sys/config/state/sanitized" {
  capabilities = ["read"]
}

# The last check: whether the engine answers.
path "smvm/config" {
  capabilities = ["read"]
}
