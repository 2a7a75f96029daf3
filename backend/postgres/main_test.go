package postgres_test

import (
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, pgtest.AllMethods) }
