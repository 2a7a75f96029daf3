package database

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

// TestHostileLocks has a user without any privilege hold all locks on PostgreSQL's own
// relations that it can get: nothing that the engine does waits for one.
func TestHostileLocks(t *testing.T) {
	for _, major := range []int{15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			pg := pgtest.OfMajor(t, major)
			p := newPatientOf(t, pg, pgtest.Unique("db"), pgtest.Unique("a"), pgtest.Unique("b"), pgtest.Unique("owner"), fault{configure: terminating})
			p.SQL("GRANT pg_signal_backend TO %s", postgres.QuoteName(p.Admin.Username))
			mallory := p.User(pgtest.Unique("mallory"))
			p.SQL("GRANT CONNECT ON DATABASE %s TO %s; ALTER ROLE %[2]s PASSWORD 'm'", postgres.QuoteName(p.databaseName), mallory)
			if locked := lockAll(t, pg, mallory, p.databaseName); len(locked) == 0 {
				t.Fatal("nothing could be locked")
			}
			p.healthy()
			v, err := p.Create(t.Context(), p.secret)
			expect.OK(t, err)
			expect.OK(t, p.Set(t.Context(), p.secret, v, conformance.Unfenced))
			_, err = p.Postgres.Sessions(t.Context(), "main", []string{mallory})
			expect.OK(t, err)
		})
	}
}

// lockAll takes, as a user, the strongest lock on everything in pg_catalog where that is
// allowed, until the test ends.
func lockAll(t *testing.T, pg *testenv.Postgres, user, database string) (locked []string) {
	t.Helper()
	config, err := pgx.ParseConfig(pg.DSN(user, "m", "x"))
	expect.OK(t, err)
	config.Database = database
	conn, err := pgx.ConnectConfig(t.Context(), config)
	expect.OK(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	rows, err := conn.Query(t.Context(), "SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')")
	expect.OK(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	expect.OK(t, err)
	_, err = conn.Exec(t.Context(), "BEGIN")
	expect.OK(t, err)
	for _, name := range names {
		if _, err := conn.Exec(t.Context(), "SAVEPOINT s; LOCK TABLE pg_catalog."+postgres.QuoteName(name)+" IN ACCESS EXCLUSIVE MODE NOWAIT"); err == nil {
			locked = append(locked, name)
		} else if _, err := conn.Exec(t.Context(), "ROLLBACK TO s"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("locked: %q", locked)
	return locked
}
