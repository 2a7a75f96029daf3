# The administrator of the mount says what the others may not: which PostgreSQL
# servers the engine logs in to and for which roles and users (connections/), where
# values and credentials may be sent (outbound_hosts in config, destinations/), and
# how much history is kept. Whoever has this can send any value anywhere: give it to
# few. Nobody is shown the passwords that rotate-root makes. Somebody who is operator
# as well has both policies.

path "smvm/config" {
  capabilities = ["read", "update", "delete"]
}

path "smvm/config/*" {
  capabilities = ["read", "list"]
}

# To add notes to the records of changes.
path "smvm/config/history/+/note" {
  capabilities = ["update"]
}

path "smvm/connections/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "smvm/rotate-root/+" {
  capabilities = ["update"]
}

path "smvm/destinations/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# To see what uses them.
path "smvm/roles/*" {
  capabilities = ["read", "list"]
}

path "smvm/secrets/*" {
  capabilities = ["read", "list"]
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
