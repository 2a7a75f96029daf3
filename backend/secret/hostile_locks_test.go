package secret

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestHostileLocks has a user without any privilege hold all locks on PostgreSQL's own
// relations that it can get: nothing that the engine does waits for one.
func TestHostileLocks(t *testing.T) {
	for _, major := range []int{15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			pg := ofMajor(t, major)
			p := newPatientOf(t, pg, unique("db"), unique("a"), unique("b"), unique("owner"), fault{configure: terminating})
			p.sql("GRANT pg_signal_backend TO %s", quoteName(p.admin.Username))
			mallory := p.user(unique("mallory"))
			p.sql("GRANT CONNECT ON DATABASE %s TO %s; ALTER ROLE %[2]s PASSWORD 'm'", quoteName(p.databaseName), mallory)
			if locked := lockAll(t, pg, mallory, p.databaseName); len(locked) == 0 {
				t.Fatal("nothing could be locked")
			}
			p.healthy()
			v, err := p.Create(t.Context(), p.secret)
			must(t, err)
			must(t, p.Set(t.Context(), p.secret, v, unfenced))
			_, err = p.bench.postgres.Sessions(t.Context(), "main", []string{mallory})
			must(t, err)
		})
	}
}

// lockAll takes, as a user, the strongest lock on everything in pg_catalog where that is
// allowed, until the test ends.
func lockAll(t *testing.T, pg *testenv.Postgres, user, database string) (locked []string) {
	t.Helper()
	config, err := pgx.ParseConfig(pg.DSN(user, "m", "x"))
	must(t, err)
	config.Database = database
	conn, err := pgx.ConnectConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	rows, err := conn.Query(t.Context(), "SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')")
	must(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	_, err = conn.Exec(t.Context(), "BEGIN")
	must(t, err)
	for _, name := range names {
		if _, err := conn.Exec(t.Context(), "SAVEPOINT s; LOCK TABLE pg_catalog."+quoteName(name)+" IN ACCESS EXCLUSIVE MODE NOWAIT"); err == nil {
			locked = append(locked, name)
		} else if _, err := conn.Exec(t.Context(), "ROLLBACK TO s"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("locked: %q", locked)
	return locked
}
