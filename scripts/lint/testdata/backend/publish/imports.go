// Package publish breaks the rule that it reaches targets through destination, and the
// rest of the engine through its ports.
package publish

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"        // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend"        // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/notify" // want depguard
)
