// Package postgres breaks the rule that it does not know what a secret is.
package postgres

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/roles" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)
