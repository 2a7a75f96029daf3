// Package secret breaks the rule that it knows what a type is, and no target of one.
package secret

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"        // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/postgres" // want depguard
)

// Nothing is nothing.
var Nothing int
