// Package check breaks the rule that it asks applications.
package check

import (
	_ "github.com/jackc/pgx/v5" // want depguard
)
