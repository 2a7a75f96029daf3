package acceptance

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestPgBouncer puts the real PgBouncer between the service and PostgreSQL, as
// shipped, and rotates: it follows by auth_query, and nobody notices.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.served("alternating_users", shortTerms)
	bouncer, address := e.startPgBouncer()
	s := e.approleService("-database", "postgres://"+address+"/orders?sslmode=disable&default_query_exec_mode=exec&pool_max_conn_lifetime=500ms&pool_health_check_period=200ms")
	requests := e.begin(s)
	for range 3 {
		answer := e.write("rotate", nil)
		e.reaches(s, number(t, answer, "version"), 10*time.Second)
		creds := e.creds()
		requests.follow(creds)
		e.drained(text(creds, "db_username"))
	}
	requests.end(t)
	e.noRefusals()
	log, err := os.ReadFile(bouncer.LogPath)
	if err != nil || strings.Contains(string(log), "failed") || !strings.Contains(string(log), e.user("b")) {
		t.Errorf("PgBouncer refused a login, or had none: %v\n%s", err, log)
	}
}

// startPgBouncer prepares the database and starts PgBouncer with the shipped
// configuration.
func (e *engine) startPgBouncer() (*testenv.Program, string) {
	e.Helper()
	password := "bouncer-" + e.prefix + "-0123456789"
	remember(password)
	e.bouncerSQL()
	e.sql("ALTER ROLE {p}bouncer PASSWORD '" + verifier(e.T, password) + "'")
	address := freeAddress(e.T)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		e.Fatal(err)
	}
	dir := e.publicDir()
	e.publish(filepath.Join(dir, "userlist.txt"), `"`+e.bouncer()+`" "`+password+"\"\n")
	e.publish(filepath.Join(dir, "ca.pem"), e.postgres.CAPEM)
	config := strings.NewReplacer("host=127.0.0.1 port=5432 dbname=orders", "host=127.0.0.1 port="+strconv.Itoa(e.postgres.Port)+" dbname=postgres",
		"auth_user=pgbouncer", "auth_user="+e.bouncer(), "pgbouncer.get_auth", e.bouncer()+".get_auth",
		"listen_addr = 127.0.0.1", "listen_addr = "+host, "6432", port, "/etc/pgbouncer", dir,
		"server_idle_timeout = 60", "server_idle_timeout = 2").Replace(e.shipped("install/pgbouncer/pgbouncer.ini"))
	e.publish(filepath.Join(dir, "pgbouncer.ini"), config)
	args := []string{filepath.Join(dir, "pgbouncer.ini")}
	if os.Getuid() == 0 {
		args = append(args, "-u", "nobody") // it refuses to be root
	}
	binary, err := testenv.PgBouncer(e.Context())
	if err != nil {
		e.Fatal(err)
	}
	return launch(e.T, nil, binary, args...), address
}

// bouncer is the name of PgBouncer's own user.
func (e *engine) bouncer() string { return e.prefix + "bouncer" }

// bouncerSQL runs the shipped auth.sql, as an operator would.
func (e *engine) bouncerSQL() {
	e.Helper()
	e.sql("CREATE ROLE {p}bouncer LOGIN")
	root, err := testenv.Root()
	if err != nil {
		e.Fatal(err)
	}
	cmd := exec.CommandContext(e.Context(), "psql", "-q", "-X", "-d", e.postgres.SuperuserDSN(), "-v", "owner="+e.user("owner"),
		"-v", "bouncer="+e.bouncer(), "-f", filepath.Join(root, "bootstrap/install/pgbouncer/auth.sql"))
	if out, err := cmd.CombinedOutput(); err != nil {
		e.Fatalf("run auth.sql: %v: %s", err, out)
	}
}

// shipped returns the text of a file in bootstrap.
func (e *engine) shipped(name string) string {
	e.Helper()
	root, err := testenv.Root()
	if err != nil {
		e.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "bootstrap", name))
	if err != nil {
		e.Fatal(err)
	}
	return string(text)
}

// publicDir returns a directory that another user can read.
func (e *engine) publicDir() string {
	e.Helper()
	dir, err := os.MkdirTemp("", "smvm-acceptance-")
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		e.Fatal(err)
	}
	return dir
}

// publish writes a file that another user can read.
func (e *engine) publish(path, text string) {
	e.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chmod(path, 0o644)); err != nil {
		e.Fatal(err)
	}
}
