// Package rotation breaks the rule for tests.
package rotation

import (
	_ "testing"

	_ "github.com/jackc/pgx/v5" // want depguard
)
