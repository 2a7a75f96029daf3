package postgres_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

// TestLookIsReadOnly tries to change something while looking.
func TestLookIsReadOnly(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	user := b.User(pgtest.Unique("app"))
	err := b.Postgres.Look(t.Context(), "main", func(conn *pgx.Conn, _ postgres.Server) error {
		return postgres.Execute(t.Context(), conn, "ALTER ROLE "+postgres.QuoteName(user)+" NOLOGIN")
	})
	if postgres.CodeOf(err) != "25006" {
		t.Errorf("got %v, want SQLSTATE 25006 of a transaction that is read-only", err)
	}
}

// TestStatementEndsTransaction tells when a text of others has ended the transaction that
// it ran in, whatever was known of it before.
func TestStatementEndsTransaction(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	at, err := b.Postgres.Server("main")
	expect.OK(t, err)
	for _, sql := range []string{"COMMIT", "ROLLBACK"} {
		conn, err := at.Login(t.Context(), b.Admin)
		expect.OK(t, err)
		expect.OK(t, postgres.Execute(t.Context(), conn, "BEGIN"))
		expect.OK(t, postgres.ExecuteOne(t.Context(), conn, "SELECT 1"))
		if postgres.ExecuteOne(t.Context(), conn, sql) == nil {
			t.Errorf("after %s all is well", sql)
		}
		postgres.HangUp(t.Context(), conn)
	}
}
