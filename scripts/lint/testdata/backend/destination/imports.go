// Package destination breaks the rule that, of Vault's, it knows the client only, and
// nothing of who publishes.
package destination

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)
