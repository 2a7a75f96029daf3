# An operator describes connections, roles and secrets, rotates, rolls back and
# verifies, and reads no value: only creds answers values, and it is not here.
#
# Whoever may write connections/ decides where the engine logs in. Leave out the
# blocks of connections, roles and secrets for people who only have to rotate and
# roll back.

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

path "smvm/checks/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# Whoever may write alerts/ decides who hears of rotations.
path "smvm/alerts/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# Whoever may write destinations/ decides who gets values: leave this block out for
# people who are not to read them.
path "smvm/destinations/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "smvm/metrics" {
  capabilities = ["read"]
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
  capabilities = ["read", "update"]
}

path "smvm/verify/+" {
  capabilities = ["read", "update"]
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
