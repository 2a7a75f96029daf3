// Package outbound breaks the rule that it is the way out, and knows nobody.
package outbound

import (
	_ "github.com/jackc/pgx/v5" // want depguard
)
