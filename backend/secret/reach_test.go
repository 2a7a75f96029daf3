package secret

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

func (b *bench) server(change func(c *ConnectionConfig)) server {
	b.t.Helper()
	c := b.config()
	if change != nil {
		change(&c)
	}
	s, err := newServer(c)
	must(b.t, err)
	return s
}

func TestTLS(t *testing.T) {
	b := newBench(t, shared)
	other := testenv.NewPostgres(t, testenv.PostgresOptions{TLS: true})
	for name, test := range map[string]struct {
		change func(c *ConnectionConfig)
		want   string
	}{
		"verify-full": {func(c *ConnectionConfig) { c.SSLMode, c.TLSCA = "verify-full", shared.CAPEM }, ""},
		"verify-ca":   {func(c *ConnectionConfig) { c.SSLMode, c.TLSCA = "verify-ca", shared.CAPEM }, ""},
		"require":     {func(c *ConnectionConfig) { c.SSLMode = "require" }, ""},
		"by name": {func(c *ConnectionConfig) {
			c.SSLMode, c.TLSCA, c.TLSServerName = "verify-full", shared.CAPEM, "localhost"
		}, ""},
		"verify-ca, other name": {func(c *ConnectionConfig) {
			c.SSLMode, c.TLSCA, c.TLSServerName = "verify-ca", shared.CAPEM, "elsewhere"
		}, ""},
		"other name": {func(c *ConnectionConfig) {
			c.SSLMode, c.TLSCA, c.TLSServerName = "verify-full", shared.CAPEM, "elsewhere"
		}, "tls_server_name"},
		"system's CAs":          {func(c *ConnectionConfig) { c.SSLMode = "" }, "tls_ca"},
		"wrong CA":              {func(c *ConnectionConfig) { c.SSLMode, c.TLSCA = "verify-full", other.CAPEM }, "tls_ca"},
		"verify-ca, wrong CA":   {func(c *ConnectionConfig) { c.SSLMode, c.TLSCA = "verify-ca", other.CAPEM }, "tls_ca"},
		"require with wrong CA": {func(c *ConnectionConfig) { c.SSLMode, c.TLSCA = "require", other.CAPEM }, "tls_ca"},
	} {
		t.Run(name, func(t *testing.T) {
			err := b.server(test.change).try(t.Context(), b.admin)
			if test.want == "" {
				must(t, err)
			} else if err == nil || !strings.Contains(err.Error(), test.want) || loginRefused(err) {
				t.Errorf("got %v, want that it mentions %s", err, test.want)
			}
		})
	}
}

func TestServerWithoutTLS(t *testing.T) {
	plain := testenv.NewPostgres(t, testenv.PostgresOptions{})
	b := newBench(t, plain)
	err := b.server(func(c *ConnectionConfig) { c.SSLMode = "verify-full" }).try(t.Context(), b.admin)
	if err == nil || !strings.Contains(err.Error(), "sslmode=disable only on a trusted network") {
		t.Errorf("got %v, want the fix", err)
	}
}

// TestEnvironment makes every variable and file that libpq knows say something
// wrong.
func TestEnvironment(t *testing.T) {
	b := newBench(t, shared)
	home := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(home, ".postgresql"), 0o700))
	for file, content := range map[string]string{
		".pgpass":                    "*:*:*:*:wrong\n",
		".pg_service.conf":           "[other]\nhost=elsewhere\n",
		".postgresql/root.crt":       "junk",
		".postgresql/postgresql.crt": "junk", ".postgresql/postgresql.key": "junk",
	} {
		must(t, os.WriteFile(filepath.Join(home, file), []byte(content), 0o600))
	}
	t.Setenv("HOME", home)
	wrong := map[string]string{
		"PGHOST": "elsewhere", "PGPORT": "1", "PGDATABASE": "wrong", "PGUSER": "wrong", "PGPASSWORD": "wrong",
		"PGPASSFILE": "/missing", "PGAPPNAME": "wrong", "PGCONNECT_TIMEOUT": "soon", "PGSSLMODE": "verify-full",
		"PGSSLKEY": "/missing", "PGSSLCERT": "/missing", "PGSSLCERTMODE": "wrong", "PGSSLROOTCERT": "/missing",
		"PGSSLNEGOTIATION": "direct", "PGTARGETSESSIONATTRS": "standby", "PGSERVICE": "missing", "PGSERVICEFILE": "/missing",
		"PGTZ": "Asia/Tokyo", "PGOPTIONS": "-c search_path=wrong", "PGMINPROTOCOLVERSION": "9.9",
		"PGCHANNELBINDING": "require", "PGREQUIREAUTH": "none", "PGSSLSNI": "7", "PGSSLPASSWORD": "wrong",
	}
	for name, value := range wrong {
		t.Setenv(name, value)
	}
	fresh, err := parseWithoutEnvironment()
	must(t, err)
	for name, value := range wrong {
		if got := os.Getenv(name); got != value {
			t.Errorf("%s is %q afterwards", name, got)
		}
	}
	s := b.server(nil)
	s.template = fresh
	conn, err := s.login(t.Context(), b.admin)
	must(t, err)
	defer hangUp(t.Context(), conn)
	var name, path, zone, user string
	must(t, conn.QueryRow(t.Context(), `SELECT current_setting('application_name'), current_setting('search_path'),
		current_setting('timezone'), current_user`).Scan(&name, &path, &zone, &user))
	if name != "smvm" || path != `"$user", public` || zone == "Asia/Tokyo" || user != b.admin.Username {
		t.Errorf("session has %q, %q, %q, %q", name, path, zone, user)
	}
	if config := s.connConfig(Login{Username: "nobody"}); config.Password != "" || len(config.RuntimeParams) != 1 || len(config.Fallbacks) != 0 {
		t.Errorf("a configuration without a password has more than it was given: %v", config.RuntimeParams)
	}
}

// TestUnreachable checks that an error names host and port, comes within the
// connect timeout, and is no refusal.
func TestUnreachable(t *testing.T) {
	var lc net.ListenConfig
	silent, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts and says nothing
	must(t, err)
	defer func() { _ = silent.Close() }()
	closed, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	must(t, closed.Close())
	for name, address := range map[string]net.Addr{"silent": silent.Addr(), "closed": closed.Addr()} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, shared)
			b.connection.Config.Port = address.(*net.TCPAddr).Port
			b.connection.Config.ConnectTimeout = time.Second
			d, s := b.database(DatabaseConfig{Usernames: []string{"app"}})
			v := databaseMaterial("app", "hunter2hunter2")
			for what, call := range map[string]func() error{
				"set":  func() error { return d.Set(t.Context(), s, v) },
				"test": func() error { return d.Test(t.Context(), s, v) },
			} {
				began := time.Now()
				err := call()
				if err == nil || loginRefused(err) || !strings.Contains(err.Error(), address.String()) || errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v, want an error that names %s", what, err, address)
				}
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("%s took %s", what, took)
				}
				wantSecretFree(t, err.Error(), v, databaseMaterial("", b.admin.Password))
			}
		})
	}
}

func (b *bench) sessions(conn *pgx.Conn) (n int) {
	b.t.Helper()
	err := conn.QueryRow(b.t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", b.admin.Username).Scan(&n)
	must(b.t, err)
	return n
}

func TestPoolIsBoundedAndClosed(t *testing.T) {
	b := newBench(t, shared)
	b.connection.Config.MaxOpenConnections = 2
	watch := connect(t, shared)
	done := make(chan error)
	for range 10 {
		go func() {
			done <- b.postgres.administer(context.Background(), "main", rollback, func(conn *pgx.Conn, _ server) error {
				return execute(context.Background(), conn, "SELECT pg_sleep(0.05)")
			})
		}()
	}
	most := 0
	for finished := 0; finished < 10; {
		select {
		case err := <-done:
			must(t, err)
			finished++
		default:
			most = max(most, b.sessions(watch))
		}
	}
	if most < 1 || most > 2 {
		t.Errorf("there were up to %d connections, want 1 to 2", most)
	}
	b.postgres.Forget("main")
	b.gone(watch)
}

// gone waits until the administrator has no session any more.
func (b *bench) gone(watch *pgx.Conn) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	must(b.t, testenv.Eventually(ctx, "no sessions", func(context.Context) error {
		if n := b.sessions(watch); n > 0 {
			return errors.New("there are sessions")
		}
		return nil
	}))
}

// TestForgetDoesNotWait also checks that a changed connection is followed, and
// that a connection in use is left to its user.
func TestForgetDoesNotWait(t *testing.T) {
	b := newBench(t, shared)
	watch := connect(t, shared)
	err := b.postgres.administer(t.Context(), "main", rollback, func(conn *pgx.Conn, _ server) error {
		began := time.Now()
		b.postgres.Forget("main")
		b.connection.Config.Database = "template1"
		err := b.postgres.administer(t.Context(), "main", rollback, func(conn *pgx.Conn, _ server) error {
			if conn.Config().Database != "template1" {
				t.Errorf("got database %s", conn.Config().Database)
			}
			return nil
		})
		if took := time.Since(began); took > time.Second {
			t.Errorf("forgetting took %s", took)
		}
		return errors.Join(err, execute(t.Context(), conn, "SELECT 1"))
	})
	must(t, err)
	b.postgres.Close()
	b.gone(watch)
	if err := b.postgres.administer(t.Context(), "main", rollback, nil); err == nil {
		t.Error("a closed Postgres was used")
	}
}

// TestAdminRotationIsFollowed lets the server accept only the second login, and
// later only the first again.
func TestAdminRotationIsFollowed(t *testing.T) {
	b := newBench(t, shared)
	pending := Login{b.admin.Username, randomPassword()}
	b.connection.Logins = []Login{b.admin, pending}
	nothing := func(*pgx.Conn, server) error { return nil }
	for _, accepted := range []Login{b.admin, pending, b.admin} {
		b.sql("ALTER ROLE %s PASSWORD %s", quoteName(b.admin.Username), quoteLiteral(accepted.Password))
		b.pgEnd()
		must(t, b.postgres.administer(t.Context(), "main", rollback, nothing))
	}
	b.sql("ALTER ROLE %s PASSWORD 'third'", quoteName(b.admin.Username))
	b.pgEnd()
	err := b.postgres.administer(t.Context(), "main", rollback, nothing)
	if !loginRefused(err) {
		t.Fatalf("got %v, want that the login is refused", err)
	}
	wantSecretFree(t, err.Error(), databaseMaterial("", b.admin.Password), databaseMaterial("", pending.Password))
}

// pgEnd ends the administrator's sessions, so that the next use logs in again.
func (b *bench) pgEnd() {
	b.t.Helper()
	b.sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", quoteLiteral(b.admin.Username))
}

func TestPausedEngineCannotCommit(t *testing.T) {
	b := newBench(t, shared)
	var timeout string
	must(t, b.postgres.administer(t.Context(), "main", rollback, func(conn *pgx.Conn, _ server) error {
		return queryRow(t.Context(), conn, "SELECT current_setting('idle_in_transaction_session_timeout')", nil, &timeout)
	}))
	if timeout != "5s" {
		t.Errorf("a transaction may idle for %s", timeout)
	}
}
