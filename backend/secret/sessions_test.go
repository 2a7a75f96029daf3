package secret

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// open makes a session of a user, who gets a password for it.
func (b *bench) open(user string) *pgx.Conn {
	b.t.Helper()
	return b.openWith(user, b.password(user))
}

func (b *bench) openWith(user, password string) *pgx.Conn {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), b.pg.DSN(user, password, "postgres"))
	must(b.t, err)
	b.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestSessions looks with the least grants, on every major version, and then as a
// member of pg_read_all_stats.
func TestSessions(t *testing.T) {
	for major := 14; major <= 18; major++ {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, ofMajor(t, major))
			one, two, idle := b.user("one"), b.user(`two"'`), b.user("idle")
			b.open(one)
			b.open(one)
			b.open(two)
			look := func() map[string]Sessions {
				found, err := b.postgres.Sessions(t.Context(), "main", []string{one, two, idle, "nobody"})
				must(t, err)
				if len(found) != 2 || found[one].Count != 2 || found[two].Count != 1 {
					t.Errorf("found %v", found)
				}
				return found
			}
			if found := look(); !found[one].Newest.IsZero() {
				t.Errorf("an administrator without privileges sees when %v began", found)
			}
			b.sql("GRANT pg_read_all_stats TO %s", b.admin.Username)
			if found := look(); time.Since(found[one].Newest).Abs() > time.Minute {
				t.Errorf("the youngest session is of %s", found[one].Newest)
			}
		})
	}
}
