// Package doctor breaks the rule that it knows no type of secret.
package doctor

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt"      // want depguard
)
