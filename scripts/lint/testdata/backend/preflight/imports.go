// Package preflight breaks the rule that it prints findings, and knows nobody.
package preflight

import (
	_ "github.com/jackc/pgx/v5" // want depguard
)
