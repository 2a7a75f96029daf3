// Package rotation breaks the rule that it imports the standard library only.
package rotation

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"        // want depguard
)
