// Package secret breaks the rule that it does not know Vault's SDK.
package secret

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"
)

// Nothing is nothing.
var Nothing int
