// Package input breaks the rule that it knows errors about fields and nothing else.
package input

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"        // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/roles" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)
