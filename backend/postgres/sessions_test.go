package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

// TestSessions looks with the least grants, on every major version, and then as a
// member of pg_read_all_stats.
func TestSessions(t *testing.T) {
	for major := 14; major <= 18; major++ {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := pgtest.NewBench(t, pgtest.OfMajor(t, major))
			one, two, idle := b.User("one"), b.User(`two"'`), b.User("idle")
			b.Open(one)
			b.Open(one)
			b.Open(two)
			look := func() map[string]postgres.Sessions {
				found, err := b.Postgres.Sessions(t.Context(), "main", []string{one, two, idle, "nobody"})
				expect.OK(t, err)
				if len(found) != 2 || found[one].Count != 2 || found[two].Count != 1 {
					t.Errorf("found %v", found)
				}
				return found
			}
			if found := look(); !found[one].Newest.IsZero() {
				t.Errorf("an administrator without privileges sees when %v began", found)
			}
			b.SQL("GRANT pg_read_all_stats TO %s", b.Admin.Username)
			if found := look(); time.Since(found[one].Newest).Abs() > time.Minute {
				t.Errorf("the youngest session is of %s", found[one].Newest)
			}
		})
	}
}
