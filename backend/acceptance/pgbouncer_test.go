package acceptance

import (
	"context"
	"net"
	"os"
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
	s := e.approleService("-database", "postgres://"+address+"/postgres?sslmode=disable&default_query_exec_mode=exec&pool_max_conn_lifetime=500ms&pool_health_check_period=200ms")
	requests := e.begin(s)
	for range 3 {
		answer := e.write("rotate", nil)
		e.reaches(s, number(t, answer, "version"), time.Minute)
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

// startPgBouncer starts PgBouncer with the shipped configuration.
func (e *engine) startPgBouncer() (*testenv.Program, string) {
	e.Helper()
	password := "bouncer-" + e.prefix + "-0123456789"
	remember(password)
	e.sql("CREATE ROLE {p}bouncer LOGIN PASSWORD '" + verifier(e.T, password) + "'")
	dir, err := os.MkdirTemp("", "smvm-acceptance-")
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) })
	command, port, err := testenv.ShippedPgBouncer{
		Dir: dir, Database: "postgres", Owner: e.user("owner"), User: e.prefix + "bouncer", Password: password,
		Changes: []string{"server_idle_timeout = 60", "server_idle_timeout = 2"},
	}.Configure(e.Context(), e.postgres)
	if err != nil {
		e.Fatal(err)
	}
	bouncer, address := launch(e.T, nil, command[0], command[1:]...), net.JoinHostPort(e.postgres.Host, strconv.Itoa(port))
	e.eventually("PgBouncer to listen", 20*time.Second, func(ctx context.Context) error { return testenv.Listens(ctx, address) })
	return bouncer, address
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
