package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bench is one on which a database secret is tried.
type bench struct{ *pgtest.Bench }

func newBench(t testing.TB, pg *testenv.Postgres) *bench {
	t.Helper()
	return &bench{pgtest.NewBench(t, pg)}
}

// database returns the type and a secret without any value.
func (b *bench) database(c DatabaseConfig) (*database, rotation.Secret) {
	c.Connection = "main"
	return &database{postgres: b.Postgres, passwords: policies{}}, secretOf(b.T, "database", c)
}

func secretOf(t testing.TB, name string, config any) rotation.Secret {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return rotation.Secret{Name: "s", Type: name, Config: data}
}

// policies stands for Vault: the name of a policy is what it makes, with a
// number behind it.
type policies struct{}

// generated counts what they made.
var generated atomic.Int64

func (policies) Generate(ctx context.Context, policy string) (string, error) {
	if policy == "missing" {
		return "", errors.New("no password policy found")
	}
	return fmt.Sprintf("%s%d", policy, generated.Add(1)), ctx.Err()
}
