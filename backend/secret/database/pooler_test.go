package database

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

// poolers are the ways in which PgBouncer is set up.
func poolers(t *testing.T) map[string][]string {
	t.Helper()
	dir, err := os.MkdirTemp("", "smvm-rules-")
	expect.OK(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	expect.OK(t, os.Chmod(dir, 0o755)) // PgBouncer is another user
	rules := filepath.Join(dir, "hba.conf")
	expect.OK(t, os.WriteFile(rules, []byte("host all rejected 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 scram-sha-256\n"), 0o644))
	return map[string][]string{
		"session":     nil,
		"transaction": {"pool_mode = transaction"},
		"rules":       {"pool_mode = transaction", "auth_type = hba", "auth_hba_file = " + rules},
		"parameters":  {"pool_mode = transaction", "ignore_startup_parameters = " + strings.Join(startupParameters(), ", ")},
	}
}

// startupParameters are the names of those with which the administrator's sessions begin.
func startupParameters() []string {
	names := []string{"application_name", "local_preload_libraries", "idle_session_timeout"}
	for _, s := range postgres.Settled {
		if s.Since == 0 {
			names = append(names, s.Name)
		}
	}
	return names
}

// TestPoolerRefuses tells what PgBouncer refuses because of who asks from what it can't
// do at the moment.
func TestPoolerRefuses(t *testing.T) {
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{})
	b := newBench(t, pg)
	b.SQL(`CREATE ROLE works LOGIN PASSWORD 'right'; CREATE ROLE expired LOGIN PASSWORD 'right' VALID UNTIL '2000-01-01'; CREATE ROLE nobody;
		CREATE ROLE without LOGIN; CREATE ROLE full_up LOGIN PASSWORD 'right' CONNECTION LIMIT 0; CREATE ROLE rejected LOGIN PASSWORD 'right'`)
	ports := map[string]int{}
	for name, settings := range poolers(t) {
		ports[name] = testenv.NewBouncer(t, pg, append(slices.Clone(settings), "server_login_retry = 1", "query_wait_timeout = 2")...)
	}
	try := func(pooler, username, password string) error {
		return b.Server(func(c *postgres.Config) { c.Port = ports[pooler] }).Settled().Try(t.Context(), postgres.Login{Username: username, Password: password})
	}
	for pooler := range ports {
		if err := try(pooler, "works", "right"); err != nil {
			t.Errorf("%s: %v", pooler, err)
		}
		for username, password := range map[string]string{"works": "wrong", "nobody": "right", "missing": "right", "without": "right", "expired": "right"} {
			if err := try(pooler, username, password); !postgres.LoginRefused(err) {
				t.Errorf("%s: login as %s: got %v, want that it is refused", pooler, username, err)
			}
		}
		if err := try(pooler, "rejected", "right"); (pooler == "rules") != postgres.LoginRefused(err) {
			t.Errorf("%s: login as one whom the pooler's rules reject: got %v", pooler, err)
		}
		if err := try(pooler, "full_up", "right"); err == nil || postgres.LoginRefused(err) {
			t.Errorf("%s: login where there is no room: got %v, want that it is not called a refusal", pooler, err)
		}
	}
	// The pooler can't log in itself, which says nothing about who asks.
	b.SQL("ALTER ROLE %s PASSWORD 'another'; SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'", testenv.Superuser)
	for pooler := range ports {
		if err := try(pooler, "missing", "right"); err == nil || postgres.LoginRefused(err) {
			t.Errorf("%s, which the server refuses: got %v, want that it is not called a refusal", pooler, err)
		}
	}
	expect.OK(t, pg.Shutdown())
	for pooler := range ports {
		if err := try(pooler, "works", "right"); err == nil || postgres.LoginRefused(err) {
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
			b.Connection.Settings.Port = testenv.NewBouncer(t, pg, settings...)
			for strategy, users := range map[string][]string{SingleUser: {b.User(pgtest.Unique("app"))}, AlternatingUsers: b.Pair(pgtest.Unique("a"), pgtest.Unique("b"))} {
				d, s := b.database(Config{RotationStrategy: strategy, Usernames: users, VerificationStatements: []string{"SELECT 1"}})
				for range 3 {
					b.Now = b.Now.Add(2 * time.Hour) // as many logins may fail on purpose again
					v, err := d.Create(t.Context(), s)
					expect.OK(t, err)
					expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
					expect.OK(t, d.Test(t.Context(), s, v))
					s.Previous, s.Current = s.Current, b.Value(v)
					_, err = d.Verify(t.Context(), s)
					expect.OK(t, err)
					if s.Previous != nil {
						expect.OK(t, d.Retire(t.Context(), s, s.Previous.Material, conformance.Unfenced))
						expect.Refused(t, d.Test(t.Context(), s, s.Previous.Material))
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
	b.T.Helper()
	root, s := NewAdmin(b.Postgres), conformance.SecretOf(b.T, "connection", b.Connection.Settings)
	first, err := ImportAdmin(b.Admin.Username, b.Admin.Password)
	expect.OK(b.T, err)
	s.Current = b.Value(first)
	next, err := root.Create(b.T.Context(), s)
	expect.OK(b.T, err)
	for range 2 { // what was done is done again
		expect.OK(b.T, root.Set(b.T.Context(), s, next, conformance.Unfenced))
	}
	s.Current = b.Value(next)
	expect.OK(b.T, root.Retire(b.T.Context(), s, first, conformance.Unfenced))
	b.Connection.Logins = []postgres.Login{b.Admin, {Username: b.Admin.Username, Password: next["password"]}}
	expect.OK(b.T, b.Postgres.Look(b.T.Context(), "main", nothing))
	expect.OK(b.T, b.Postgres.Administer(b.T.Context(), "main", postgres.Rollback, nothing))
	b.Connection.Logins = []postgres.Login{b.Admin}
	if err := b.Postgres.Look(b.T.Context(), "main", nothing); err == nil || !strings.Contains(err.Error(), "password by hand") || !strings.Contains(err.Error(), "let it use auth_query") {
		b.T.Errorf("got %v, want what to do about it", err)
	}
}

// nothing is done in a transaction.
func nothing(*pgx.Conn, postgres.Server) error { return nil }
