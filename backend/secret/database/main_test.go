package database

import (
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func TestMain(m *testing.M) { pgtest.Main(m, pgtest.AllMethods) }

// bench is one on which a database secret is tried.
type bench struct{ *pgtest.Bench }

func newBench(t testing.TB, pg *testenv.Postgres) *bench {
	t.Helper()
	return &bench{pgtest.NewBench(t, pg)}
}

// database returns the type and a secret without any value.
func (b *bench) database(c Config) (*driver, rotation.Secret) {
	c.Connection = "main"
	return &driver{postgres: b.Postgres, passwords: conformance.Policies{}}, conformance.SecretOf(b.T, "database", c)
}
