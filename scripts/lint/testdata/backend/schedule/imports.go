// Package schedule breaks the rule that it starts what roles do, and knows no server.
package schedule

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
	_ "github.com/jackc/pgx/v5"        // want depguard
)
