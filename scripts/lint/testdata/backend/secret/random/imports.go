// Package random breaks the rule that types of secrets know neither each other nor a target.
package random

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"        // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/postgres" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt" // want depguard
)
