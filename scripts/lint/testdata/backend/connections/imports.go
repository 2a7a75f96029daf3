// Package connections breaks the rule that it knows the rules of connections, and neither
// Vault nor PostgreSQL itself.
package connections

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"        // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt" // want depguard
)
