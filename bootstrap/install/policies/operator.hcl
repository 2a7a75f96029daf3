# An operator describes roles and secrets within what connections allow, rotates,
# rolls back and verifies, and reads no value: creds is not here, and where values
# may go is said by an administrator of the mount (administrator.hcl). The one value
# that an operator is given is an API key with hash_only, by the request that makes it;
# a value that they import they know.
#
# Leave out the blocks of roles, secrets and checks for people who only have to
# rotate and roll back.

path "smvm/config" {
  capabilities = ["read"]
}

path "smvm/config/*" {
  capabilities = ["read", "list"]
}

path "smvm/connections/*" {
  capabilities = ["read", "list"]
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

# Whoever may write alerts/ decides who hears of rotations; alerts carry no value.
path "smvm/alerts/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "smvm/destinations/*" {
  capabilities = ["read", "list"]
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

path "smvm/retire" {
  capabilities = ["update"]
}

path "smvm/retire/+" {
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

# To add notes to records.
path "smvm/history/+/+/note" {
  capabilities = ["update"]
}

path "smvm/connections/+/history/+/note" {
  capabilities = ["update"]
}
