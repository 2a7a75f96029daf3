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
	if config := s.connConfig(Login{Username: "nobody"}, s.endpoint.Addresses[0]); config.Password != "" || len(config.RuntimeParams) != 1 || len(config.Fallbacks) != 0 {
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
				"set":  func() error { return d.Set(t.Context(), s, v, unfenced) },
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
