package acceptance

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/bootstrap/apps/go/smvmcreds"
)

// told is a reader that knows one answer of creds.
type told map[string]string

// Read implements smvmcreds.Reader.
func (f told) Read(context.Context, *smvmcreds.Credentials) (*smvmcreds.Credentials, error) {
	return smvmcreds.NewCredentials(1, f), nil
}

// reach has a service's pool connect by these fields of db, and query.
func reach(t *testing.T, fields map[string]string) error {
	t.Helper()
	values := told{"db_username": testenv.Superuser, "db_password": shared.postgres.Password, "db_database": "postgres"}
	maps.Copy(values, fields)
	source, err := smvmcreds.Open(t.Context(), values, smvmcreds.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	config, err := pgxpool.ParseConfig("")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	pool, err := source.NewPool(ctx, config, "db")
	if err != nil {
		return err
	}
	defer pool.Close()
	return pool.Ping(ctx)
}

// TestPoolKnowsItsServer connects to a server with TLS by a private CA: by every
// mode, with that CA, with another and with none, by its name and by another.
func TestPoolKnowsItsServer(t *testing.T) {
	other := testenv.NewPostgres(t, testenv.PostgresOptions{TLS: true})
	elsewhere := forward(t, "127.0.0.2", shared.postgres.Address())
	host, port, err := net.SplitHostPort(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	const right, wrong, none = "right", "wrong", ""
	certificates := map[string]string{right: shared.postgres.CAPEM, wrong: other.CAPEM, none: ""}
	for _, test := range []struct {
		mode, ca     string
		byName, fine bool
	}{
		{"verify-full", right, true, true},
		{"verify-full", right, false, false},
		{"verify-full", wrong, true, false},
		{"verify-full", none, true, false},
		{"verify-ca", right, true, true},
		{"verify-ca", right, false, true},
		{"verify-ca", wrong, true, false},
		{"verify-ca", none, true, false},
		{"require", right, false, true},
		{"require", wrong, true, false},
		{"require", none, false, true},
		{"disable", none, true, true},
		{"", none, true, false},
		{"", right, true, true},
		{"prefer", right, true, false},
	} {
		t.Run(fmt.Sprintf("%s, %s CA, by name %t", test.mode, test.ca, test.byName), func(t *testing.T) {
			fields := map[string]string{"db_host": host, "db_port": port, "db_sslmode": test.mode, "db_ssl_root_certificate": certificates[test.ca]}
			if test.byName {
				fields["db_host"], fields["db_port"] = shared.postgres.Host, strconv.Itoa(shared.postgres.Port)
			}
			err := reach(t, fields)
			if (err == nil) != test.fine {
				t.Errorf("it says %v", err)
			}
			if err != nil && strings.Contains(err.Error(), shared.postgres.Password) {
				t.Error("the error has the password in it")
			}
		})
	}
}

// TestPoolIgnoresEnvironment has everything around the service say that no TLS, or
// another CA, will do.
func TestPoolIgnoresEnvironment(t *testing.T) {
	other := testenv.NewPostgres(t, testenv.PostgresOptions{TLS: true})
	fields := map[string]string{"db_host": other.Host, "db_port": strconv.Itoa(other.Port), "db_password": other.Password, "db_sslmode": "verify-full"}
	for _, mode := range []string{"disable", "allow", "prefer", "require"} {
		t.Setenv("PGSSLMODE", mode)
		t.Setenv("PGSSLROOTCERT", other.CAFile)
		fields["db_ssl_root_certificate"] = shared.postgres.CAPEM
		if err := reach(t, fields); err == nil {
			t.Errorf("PGSSLMODE=%s, PGSSLROOTCERT=… have it trust another server", mode)
		}
		fields["db_ssl_root_certificate"] = other.CAPEM
		if err := reach(t, fields); err != nil {
			t.Errorf("PGSSLMODE=%s: %v", mode, err)
		}
	}
}

// TestPoolTellsNobodyElse stands between service and server: whoever has no TLS to
// offer learns not even the user, and without TLS nobody is told the password.
func TestPoolTellsNobodyElse(t *testing.T) {
	for _, mode := range []string{"verify-full", "verify-ca", "require", ""} {
		m := between(t, nil)
		err := reach(t, map[string]string{"db_host": m.host, "db_port": m.port, "db_sslmode": mode, "db_ssl_root_certificate": shared.postgres.CAPEM})
		if said := m.heard(); err == nil || len(said) != 0 {
			t.Errorf("sslmode %q: without TLS it sends %q, and says %v", mode, said, err)
		}
	}
	clear, md5 := []byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}, []byte{'R', 0, 0, 0, 12, 0, 0, 0, 5, 1, 2, 3, 4}
	for what, demand := range map[string][]byte{"in clear": clear, "by MD5": md5, "not at all": {'R', 0, 0, 0, 8, 0, 0, 0, 0}} {
		m := between(t, demand)
		err := reach(t, map[string]string{"db_host": m.host, "db_port": m.port, "db_sslmode": "disable"})
		if said := m.heard(); err == nil || len(said) != 0 {
			t.Errorf("asked for the password %s it sends %d bytes, and says %v", what, len(said), err)
		}
	}
}

// TestServiceNeedsItsAuthorities starts the service with the server's CA, with
// another and with none: it serves with its own only.
func TestServiceNeedsItsAuthorities(t *testing.T) {
	t.Parallel()
	other := testenv.NewPostgres(t, testenv.PostgresOptions{TLS: true})
	common := []string{
		"DB_HOST=" + shared.postgres.Host, "DB_PORT=" + strconv.Itoa(shared.postgres.Port), "DB_NAME=postgres",
		"DB_USER=" + testenv.Superuser, "DATABASE_PASSWORD=" + shared.postgres.Password, "PGSSLMODE=disable",
	}
	for name, test := range map[string]struct {
		env  []string
		fine bool
	}{
		"file":            {[]string{"DB_SSLMODE=verify-full", "DB_SSLROOTCERT=" + shared.postgres.CAFile}, true},
		"text":            {[]string{"DB_SSLMODE=verify-full", "DB_SSL_ROOT_CERTIFICATE=" + shared.postgres.CAPEM}, true},
		"no mode":         {[]string{"DB_SSLROOTCERT=" + shared.postgres.CAFile}, true},
		"another file":    {[]string{"DB_SSLMODE=verify-full", "DB_SSLROOTCERT=" + other.CAFile}, false},
		"another text":    {[]string{"DB_SSLMODE=verify-full", "DB_SSL_ROOT_CERTIFICATE=" + other.CAPEM}, false},
		"the system's":    {[]string{"DB_SSLMODE=verify-full", "DB_SSLROOTCERT=system"}, false},
		"no word of any":  {nil, false},
		"prefer":          {[]string{"DB_SSLMODE=prefer", "DB_SSLROOTCERT=" + shared.postgres.CAFile}, false},
		"system over PEM": {[]string{"DB_SSLROOTCERT=system", "DB_SSL_ROOT_CERTIFICATE=" + shared.postgres.CAPEM}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			address := freeAddress(t)
			s := &service{T: t, address: address}
			s.Program = launch(t, append(test.env, common...), serviceBinary(t), "-listen", address, "-from", "environment", "-retry=false")
			if err := testenv.Eventually(ctx, "an end", func(context.Context) error { return s.settled(test.fine) }); err != nil {
				t.Errorf("%v: %s", err, s.LogTail())
			}
		})
	}
}

// settled reports an error until the service serves, or has ended and said why.
func (s *service) settled(serves bool) error {
	log, err := os.ReadFile(s.LogPath)
	if err != nil {
		return err
	}
	wanted, wrong := " ERROR smvm-api ends ", " INFO serving "
	if serves {
		wanted, wrong = wrong, wanted
	}
	if !strings.Contains(string(log), wanted) || strings.Contains(string(log), wrong) {
		return fmt.Errorf("it does not say %q", wanted)
	}
	return nil
}
