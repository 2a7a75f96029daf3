// Package tripwire breaks the rule that it knows roles and their secrets and nothing else.
package tripwire

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend"        // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/notify" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/usage"      // want depguard
)
