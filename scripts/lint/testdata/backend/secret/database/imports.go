// Package database breaks the rule that it knows servers and its own secrets, and no roles.
package database

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/roles" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)
