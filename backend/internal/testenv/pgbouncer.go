package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// NewBouncer starts PgBouncer in session mode in front of a server, for every database
// and user of it, and returns the port on which it listens, at the server's address. The
// settings are lines of pgbouncer.ini, after the harness's own. The superuser may use its
// console. It stops when the test and its subtests are done.
func NewBouncer(t testing.TB, pg *Postgres, settings ...string) (port int) {
	t.Helper()
	binary, err := PgBouncer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	port, err = freePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "smvm-pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	users, config := filepath.Join(dir, "userlist.txt"), filepath.Join(dir, "pgbouncer.ini")
	err = errors.Join(os.Chmod(dir, 0o755), // PgBouncer refuses to be root
		os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", Superuser, pg.Password), 0o644),
		os.WriteFile(config, fmt.Appendf(nil, `[databases]
* = host=%s port=%d auth_user=%s
[pgbouncer]
listen_addr = %s
listen_port = %d
auth_type = scram-sha-256
auth_file = %s
auth_query = SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename OPERATOR(pg_catalog.=) $1
admin_users = %s
pool_mode = session
default_pool_size = 50
%s
`, pg.Host, pg.Port, Superuser, pg.Host, port, users, Superuser, strings.Join(settings, "\n")), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{config}
	if os.Getuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	NewProgram(t, nil, binary, args...)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = Eventually(ctx, "PgBouncer to listen", func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(pg.Host, fmt.Sprint(port)))
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return port
}
