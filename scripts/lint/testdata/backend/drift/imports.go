// Package drift breaks the rule that servers and settings are reached through its ports.
package drift

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"        // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend"             // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/connections" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt" // want depguard
)
