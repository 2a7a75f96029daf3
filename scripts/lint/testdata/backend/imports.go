package backend

import (
	_ "github.com/hashicorp/vault/sdk"
	_ "github.com/jackc/pgx/v5" // want depguard

	_ "github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv" // want depguard
)
