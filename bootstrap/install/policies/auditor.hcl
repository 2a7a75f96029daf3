# An auditor reads what there is, how it is doing and what was done to it, changes
# nothing, and never reads a value: creds is denied even where another policy of
# the same token allows all of smvm/.

path "smvm/config" {
  capabilities = ["read"]
}

path "smvm/config/*" {
  capabilities = ["read", "list"]
}

# Reading a connection or a secret shows its configuration only.
path "smvm/connections/*" {
  capabilities = ["read", "list"]
}

path "smvm/roles/*" {
  capabilities = ["read", "list"]
}

path "smvm/secrets/*" {
  capabilities = ["read", "list"]
}

path "smvm/checks/*" {
  capabilities = ["read", "list"]
}

path "smvm/alerts/*" {
  capabilities = ["read", "list"]
}

path "smvm/destinations/*" {
  capabilities = ["read", "list"]
}

path "smvm/metrics" {
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

path "smvm/creds" {
  capabilities = ["deny"]
}

path "smvm/creds/*" {
  capabilities = ["deny"]
}
