// Package metrics breaks the rule that others are asked through its ports.
package metrics

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"        // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend"                 // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/usage"           // want depguard
)
