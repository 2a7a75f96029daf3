package database

import (
	_ "github.com/hashicorp/vault/sdk" // want depguard
)
