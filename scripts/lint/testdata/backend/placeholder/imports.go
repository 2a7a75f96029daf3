// Package placeholder breaks the rule that it fills in texts, and knows nobody.
package placeholder

import (
	_ "github.com/jackc/pgx/v5" // want depguard
)
