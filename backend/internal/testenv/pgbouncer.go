package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
		return Listens(ctx, net.JoinHostPort(pg.Host, fmt.Sprint(port)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// ShippedPgBouncer is PgBouncer before the server of an application, set up with the
// files of bootstrap/install/pgbouncer.
type ShippedPgBouncer struct {
	// Dir is where its files go. PgBouncer reads them as another user.
	Dir string
	// Database is the application's, Owner the role whose members log in.
	Database, Owner string
	// User is PgBouncer's own, which has to exist, and Password its password.
	User, Password string
	// Changes are pairs for strings.NewReplacer: what is to differ from what is shipped.
	Changes []string
}

// Configure prepares the database and writes the files. It returns the command that
// starts PgBouncer, and the port at which it will then listen at the server's address.
func (b ShippedPgBouncer) Configure(ctx context.Context, pg *Postgres) (command []string, port int, err error) {
	root, err := Root()
	if err != nil {
		return nil, 0, err
	}
	shipped := filepath.Join(root, "bootstrap/install/pgbouncer")
	if err := b.runSQL(ctx, pg, filepath.Join(shipped, "auth.sql")); err != nil {
		return nil, 0, err
	}
	if port, err = freePort(ctx); err != nil {
		return nil, 0, err
	}
	text, err := os.ReadFile(filepath.Join(shipped, "pgbouncer.ini"))
	if err != nil {
		return nil, 0, fmt.Errorf("read configuration of PgBouncer: %w", err)
	}
	changes := []string{
		"orders = host=127.0.0.1 port=5432 dbname=orders", fmt.Sprintf("%s = host=%s port=%d dbname=%[1]s", b.Database, pg.Host, pg.Port),
		"auth_user=pgbouncer", "auth_user=" + b.User, "pgbouncer.get_auth", b.User + ".get_auth",
		"listen_addr = 127.0.0.1", "listen_addr = " + pg.Host, "6432", strconv.Itoa(port), "/etc/pgbouncer", b.Dir,
	}
	if pg.CAPEM == "" {
		changes = append(changes, "server_tls_sslmode = verify-full", "server_tls_sslmode = disable")
	}
	config := filepath.Join(b.Dir, "pgbouncer.ini")
	for path, text := range map[string]string{
		filepath.Join(b.Dir, "userlist.txt"): fmt.Sprintf("%q %q\n", b.User, b.Password),
		filepath.Join(b.Dir, "ca.pem"):       pg.CAPEM,
		config:                               strings.NewReplacer(append(changes, b.Changes...)...).Replace(string(text)),
	} {
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chmod(path, 0o644)); err != nil {
			return nil, 0, fmt.Errorf("write configuration of PgBouncer: %w", err)
		}
	}
	binary, err := PgBouncer(ctx)
	if err == nil {
		err = os.Chmod(b.Dir, 0o755)
	}
	command = []string{binary, config}
	if os.Getuid() == 0 {
		command = append(command, "-u", "nobody") // it refuses to be root
	}
	return command, port, err
}

// runSQL runs the shipped file, as an operator would.
func (b ShippedPgBouncer) runSQL(ctx context.Context, pg *Postgres, file string) error {
	cmd := exec.CommandContext(ctx, "psql", "-q", "-X", "-v", "owner="+b.Owner, "-v", "bouncer="+b.User, "-f", file)
	cmd.Env = append(os.Environ(), "PGHOST="+pg.SocketDir(), "PGPORT="+strconv.Itoa(pg.Port),
		"PGDATABASE="+b.Database, "PGUSER="+Superuser, "PGPASSWORD="+pg.Password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w: %s", filepath.Base(file), err, out)
	}
	return nil
}
