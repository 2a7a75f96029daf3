# An application reads its own role's secrets, and signs with them. This is for the
# role "default", which the bare path smvm/creds reads as well. For any other role
# leave out the first block and put its name into the others, for example:
#
#   sed -e '/^path "smvm\/creds" {/,/^}/d' -e 's/default/orders/' application.hcl |
#     vault policy write smvm-application-orders -
#
# One policy for all applications, where every Vault entity has the name of its
# role in its metadata (vault write identity/entity name=… metadata=smvm_role=…):
#
#   path "smvm/creds/{{identity.entity.metadata.smvm_role}}" {
#     capabilities = ["read"]
#   }

path "smvm/creds" {
  capabilities = ["read"]
}

path "smvm/creds/default" {
  capabilities = ["read"]
}

# One secret of the role by itself.
path "smvm/creds/default/+" {
  capabilities = ["read"]
}

# Sign tokens with the role's keys, which need not leave the engine for that, and
# verify them. Whoever only verifies needs neither: smvm/jwks takes no token.
path "smvm/jwt/default/+/sign" {
  capabilities = ["update"]
}

path "smvm/jwt/default/+/verify" {
  capabilities = ["update"]
}
