// Package destination breaks the rule that it knows package rotation and nothing else.
package destination

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend" // want depguard
	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)
