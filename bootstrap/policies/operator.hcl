# An operator describes connections, roles and secrets, rotates, rolls back and
# verifies, and never reads a value: nothing here answers one but creds, which is
# not here. An operator who also manages users of PostgreSQL can still give
# himself a password there.

path "smvm/config" {
  capabilities = ["read", "update"]
}

path "smvm/connections/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "smvm/rotate-root/+" {
  capabilities = ["update"]
}

path "smvm/roles/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "smvm/secrets/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "smvm/rotate" {
  capabilities = ["update"]
}

path "smvm/rotate/+" {
  capabilities = ["update"]
}

path "smvm/rollback" {
  capabilities = ["update"]
}

path "smvm/rollback/+" {
  capabilities = ["update"]
}

path "smvm/verify" {
  capabilities = ["read"]
}

path "smvm/verify/+" {
  capabilities = ["read"]
}

path "smvm/status" {
  capabilities = ["read"]
}

path "smvm/status/+" {
  capabilities = ["read"]
}

path "smvm/history/*" {
  capabilities = ["read", "list"]
}
