package secret

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// poolers are the ways in which PgBouncer is set up.
func poolers(t *testing.T) map[string][]string {
	t.Helper()
	dir, err := os.MkdirTemp("", "smvm-rules-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755)) // PgBouncer is another user
	rules := filepath.Join(dir, "hba.conf")
	must(t, os.WriteFile(rules, []byte("host all rejected 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 scram-sha-256\n"), 0o644))
	return map[string][]string{
		"session":     nil,
		"transaction": {"pool_mode = transaction"},
		"rules":       {"pool_mode = transaction", "auth_type = hba", "auth_hba_file = " + rules},
		"parameters":  {"pool_mode = transaction", "ignore_startup_parameters = " + strings.Join(slices.Collect(maps.Keys(beginsSettled())), ", ")},
	}
}

// TestPoolerRefuses tells what PgBouncer refuses because of who asks from what it can't
// do at the moment.
func TestPoolerRefuses(t *testing.T) {
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{})
	b := newBench(t, pg)
	b.sql(`CREATE ROLE works LOGIN PASSWORD 'right'; CREATE ROLE expired LOGIN PASSWORD 'right' VALID UNTIL '2000-01-01'; CREATE ROLE nobody;
		CREATE ROLE without LOGIN; CREATE ROLE full_up LOGIN PASSWORD 'right' CONNECTION LIMIT 0; CREATE ROLE rejected LOGIN PASSWORD 'right'`)
	ports := map[string]int{}
	for name, settings := range poolers(t) {
		ports[name] = testenv.NewBouncer(t, pg, append(slices.Clone(settings), "server_login_retry = 1", "query_wait_timeout = 2")...)
	}
	try := func(pooler, username, password string) error {
		return b.server(func(c *ConnectionConfig) { c.Port = ports[pooler] }).settled().try(t.Context(), Login{username, password})
	}
	for pooler := range ports {
		if err := try(pooler, "works", "right"); err != nil {
			t.Errorf("%s: %v", pooler, err)
		}
		for username, password := range map[string]string{"works": "wrong", "nobody": "right", "missing": "right", "without": "right", "expired": "right"} {
			if err := try(pooler, username, password); !loginRefused(err) {
				t.Errorf("%s: login as %s: got %v, want that it is refused", pooler, username, err)
			}
		}
		if err := try(pooler, "rejected", "right"); (pooler == "rules") != loginRefused(err) {
			t.Errorf("%s: login as one whom the pooler's rules reject: got %v", pooler, err)
		}
		if err := try(pooler, "full_up", "right"); err == nil || loginRefused(err) {
			t.Errorf("%s: login where there is no room: got %v, want that it is not called a refusal", pooler, err)
		}
	}
	// The pooler can't log in itself, which says nothing about who asks.
	b.sql("ALTER ROLE %s PASSWORD 'another'; SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'", testenv.Superuser)
	for pooler := range ports {
		if err := try(pooler, "missing", "right"); err == nil || loginRefused(err) {
			t.Errorf("%s, which the server refuses: got %v, want that it is not called a refusal", pooler, err)
		}
	}
	must(t, pg.Shutdown())
	for pooler := range ports {
		if err := try(pooler, "works", "right"); err == nil || loginRefused(err) {
			t.Errorf("%s, without its server: got %v, want that it is not called a refusal", pooler, err)
		}
	}
}

// TestPoolerLife rotates through PgBouncer, and proves there what works and what does not.
func TestPoolerLife(t *testing.T) {
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{})
	for name, settings := range poolers(t) {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, pg)
			b.connection.Config.Port = testenv.NewBouncer(t, pg, settings...)
			for strategy, users := range map[string][]string{SingleUser: {b.user(unique("app"))}, AlternatingUsers: b.pair(unique("a"), unique("b"))} {
				d, s := b.database(DatabaseConfig{RotationStrategy: strategy, Usernames: users, VerificationStatements: []string{"SELECT 1"}})
				for range 3 {
					b.now = b.now.Add(2 * time.Hour) // as many logins may fail on purpose again
					v, err := d.Create(t.Context(), s)
					must(t, err)
					must(t, d.Set(t.Context(), s, v, unfenced))
					must(t, d.Test(t.Context(), s, v))
					s.Previous, s.Current = s.Current, b.value(v)
					_, err = d.Verify(t.Context(), s)
					must(t, err)
					if s.Previous != nil {
						must(t, d.Retire(t.Context(), s, s.Previous.Material, unfenced))
						wantRefused(t, d.Test(t.Context(), s, s.Previous.Material))
						s.Previous = nil
					}
				}
			}
			b.rotateRoot()
		})
	}
}

// rotateRoot rotates the password of the administrator, and proves it.
func (b *bench) rotateRoot() {
	b.t.Helper()
	root, s := NewAdmin(b.postgres), secretOf(b.t, "connection", b.connection.Config)
	first, err := ImportAdmin(b.admin.Username, b.admin.Password)
	must(b.t, err)
	s.Current = b.value(first)
	next, err := root.Create(b.t.Context(), s)
	must(b.t, err)
	for range 2 { // what was done is done again
		must(b.t, root.Set(b.t.Context(), s, next, unfenced))
	}
	s.Current = b.value(next)
	must(b.t, root.Retire(b.t.Context(), s, first, unfenced))
	b.connection.Logins = []Login{b.admin, {b.admin.Username, next["password"]}}
	must(b.t, b.postgres.look(b.t.Context(), "main", nothing))
	must(b.t, b.postgres.administer(b.t.Context(), "main", rollback, nothing))
	b.connection.Logins = []Login{b.admin}
	if err := b.postgres.look(b.t.Context(), "main", nothing); err == nil || !strings.Contains(err.Error(), "changed by hand") {
		b.t.Errorf("got %v, want what to do about it", err)
	}
}

// nothing is done in a transaction.
func nothing(*pgx.Conn, server) error { return nil }
