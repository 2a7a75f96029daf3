package backend

import (
	"fmt" // want goimports
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

var _ = fmt.Sprint(secret.Nothing)
