// Package usage breaks the rule that it knows roles and their secrets and nothing else.
package usage

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"        // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend"       // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/audit" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database" // want depguard
)
