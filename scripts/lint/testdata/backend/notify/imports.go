// Package notify breaks the rule that it knows roles, and the way out over HTTP, only.
package notify

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"        // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret" // want depguard
)
