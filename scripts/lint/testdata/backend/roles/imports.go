// Package roles breaks the rule that it holds what rotation changes.
package roles

import (
	_ "github.com/jackc/pgx/v5" // want depguard
)
