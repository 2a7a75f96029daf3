package acceptance

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/bootstrap/go/smvmcreds"
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

// middle is somebody between a service and its server.
type middle struct {
	host, port string

	mu   sync.Mutex
	said []byte
	done sync.WaitGroup
	stop func()
}

// between has no TLS to offer. With a demand it takes the first message, of who
// wants to log in, and answers that; what comes then is what heard returns.
func between(t *testing.T, demand []byte) *middle {
	t.Helper()
	listener := listen(t, "127.0.0.1")
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	m := &middle{host: host, port: port, stop: func() { _ = listener.Close() }}
	t.Cleanup(m.stop)
	m.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			m.done.Go(func() { m.serve(conn, demand) })
		}
	})
	return m
}

func (m *middle) serve(conn net.Conn, demand []byte) {
	defer conn.Close() //nolint:errcheck // it was read
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	answer := []byte("N")
	if demand != nil {
		answer = demand
	}
	length := make([]byte, 4)
	if _, err := io.ReadFull(conn, length); err != nil {
		return
	}
	if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(length))-4); err != nil {
		return
	}
	if _, err := conn.Write(answer); err != nil {
		return
	}
	rest, _ := io.ReadAll(conn)
	// That one hangs up is no secret.
	rest = bytes.TrimSuffix(rest, []byte{'X', 0, 0, 0, 4})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, rest...)
}

// heard ends it, and returns what it was sent after its answer.
func (m *middle) heard() []byte {
	m.stop()
	m.done.Wait()
	return m.said
}

func listen(t *testing.T, host string) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// forward passes connections on, and returns the address that it listens at.
func forward(t *testing.T, host, target string) string {
	t.Helper()
	listener := listen(t, host)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go pass(conn, target)
		}
	}()
	return listener.Addr().String()
}

func pass(conn net.Conn, target string) {
	defer conn.Close() //nolint:errcheck // it was copied
	server, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // it was copied
	go func() {
		_, _ = io.Copy(server, conn)
		_ = server.Close()
	}()
	_, _ = io.Copy(conn, server)
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
