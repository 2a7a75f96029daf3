package postgres_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

func TestTLS(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	other := testenv.NewPostgres(t, testenv.PostgresOptions{TLS: true})
	for name, test := range map[string]struct {
		change func(c *postgres.Config)
		want   string
	}{
		"verify-full": {func(c *postgres.Config) { c.SSLMode, c.TLSCA = "verify-full", pgtest.Shared.CAPEM }, ""},
		"verify-ca":   {func(c *postgres.Config) { c.SSLMode, c.TLSCA = "verify-ca", pgtest.Shared.CAPEM }, ""},
		"require":     {func(c *postgres.Config) { c.SSLMode = "require" }, ""},
		"by name": {func(c *postgres.Config) {
			c.SSLMode, c.TLSCA, c.TLSServerName = "verify-full", pgtest.Shared.CAPEM, "localhost"
		}, ""},
		"verify-ca, other name": {func(c *postgres.Config) {
			c.SSLMode, c.TLSCA, c.TLSServerName = "verify-ca", pgtest.Shared.CAPEM, "elsewhere"
		}, ""},
		"other name": {func(c *postgres.Config) {
			c.SSLMode, c.TLSCA, c.TLSServerName = "verify-full", pgtest.Shared.CAPEM, "elsewhere"
		}, "tls_server_name"},
		"system's CAs":          {func(c *postgres.Config) { c.SSLMode = "" }, "tls_ca"},
		"wrong CA":              {func(c *postgres.Config) { c.SSLMode, c.TLSCA = "verify-full", other.CAPEM }, "tls_ca"},
		"verify-ca, wrong CA":   {func(c *postgres.Config) { c.SSLMode, c.TLSCA = "verify-ca", other.CAPEM }, "tls_ca"},
		"require with wrong CA": {func(c *postgres.Config) { c.SSLMode, c.TLSCA = "require", other.CAPEM }, "tls_ca"},
	} {
		t.Run(name, func(t *testing.T) {
			err := b.Server(test.change).Try(t.Context(), b.Admin)
			if test.want == "" {
				expect.OK(t, err)
			} else if err == nil || !strings.Contains(err.Error(), test.want) || postgres.LoginRefused(err) {
				t.Errorf("got %v, want that it mentions %s", err, test.want)
			}
		})
	}
}

func TestServerWithoutTLS(t *testing.T) {
	plain := testenv.NewPostgres(t, testenv.PostgresOptions{})
	b := pgtest.NewBench(t, plain)
	err := b.Server(func(c *postgres.Config) { c.SSLMode = "verify-full" }).Try(t.Context(), b.Admin)
	if err == nil || !strings.Contains(err.Error(), "sslmode=disable only on a trusted network") {
		t.Errorf("got %v, want the fix", err)
	}
}

// TestEnvironment makes every variable and file that libpq knows say something
// wrong.
func TestEnvironment(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	home := t.TempDir()
	expect.OK(t, os.MkdirAll(filepath.Join(home, ".postgresql"), 0o700))
	for file, content := range map[string]string{
		".pgpass":                    "*:*:*:*:wrong\n",
		".pg_service.conf":           "[other]\nhost=elsewhere\n",
		".postgresql/root.crt":       "junk",
		".postgresql/postgresql.crt": "junk", ".postgresql/postgresql.key": "junk",
	} {
		expect.OK(t, os.WriteFile(filepath.Join(home, file), []byte(content), 0o600))
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
	s, err := b.Server(nil).Fresh()
	expect.OK(t, err)
	for name, value := range wrong {
		if got := os.Getenv(name); got != value {
			t.Errorf("%s is %q afterwards", name, got)
		}
	}
	conn, err := s.Login(t.Context(), b.Admin)
	expect.OK(t, err)
	defer postgres.HangUp(t.Context(), conn)
	var name, path, zone, user string
	expect.OK(t, conn.QueryRow(t.Context(), `SELECT current_setting('application_name'), current_setting('search_path'),
		current_setting('timezone'), current_user`).Scan(&name, &path, &zone, &user))
	if name != "smvm" || path != `"$user", public` || zone == "Asia/Tokyo" || user != b.Admin.Username {
		t.Errorf("session has %q, %q, %q, %q", name, path, zone, user)
	}
	if config := s.ConnConfig(postgres.Login{Username: "nobody"}); config.Password != "" || len(config.RuntimeParams) != 1 || len(config.Fallbacks) != 0 {
		t.Errorf("a configuration without a password has more than it was given: %v", config.RuntimeParams)
	}
}
