package backend

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

func TestMain(m *testing.M) { pgtest.Main(m, testenv.PostgresOptions{}) }

var counter atomic.Int64

// unique returns a name that no other test uses.
func unique(name string) string { return fmt.Sprintf("%s_%d", name, counter.Add(1)) }

// server is a PostgreSQL as one mount uses it: by the connection "main", as an
// administrator of its own who is no superuser.
type server struct {
	*mount
	pg              *testenv.Postgres
	admin, password string
}

// connect writes the connection "main", to the PostgreSQL that tests share.
func (m *mount) connect() *server {
	m.Helper()
	return m.connectTo(pgtest.Shared)
}

// connectTo writes the connection "main".
func (m *mount) connectTo(pg *testenv.Postgres) *server {
	m.Helper()
	s := &server{mount: m, pg: pg, admin: unique("admin"), password: "first-" + uid(m.T)}
	s.sql("CREATE ROLE %s LOGIN CREATEROLE PASSWORD '%s'", s.admin, s.password)
	m.write("connections/main", s.described())
	return s
}

// described is what connections/main is written with.
func (s *server) described() map[string]any {
	return map[string]any{
		"host": s.pg.Host, "port": s.pg.Port, "database": "postgres", "sslmode": "disable",
		"username": s.admin, "password": s.password, "allowed_roles": "*", "allow_rotation_statements": true,
	}
}

// user creates a user that the administrator may manage.
func (s *server) user() string {
	s.Helper()
	name := unique("app")
	s.sql("CREATE ROLE %s LOGIN", name)
	if s.pg.Version >= 160000 {
		s.sql("GRANT %s TO %s WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", name, s.admin)
	}
	return name
}

// pair is two users that own things together.
func (s *server) pair() []string {
	s.Helper()
	owner, a, b := unique("owner"), s.user(), s.user()
	s.sql("CREATE ROLE %s NOLOGIN; GRANT %s TO %s, %s", owner, owner, a, b)
	return []string{a, b}
}

// sql runs statements as the superuser.
func (s *server) sql(format string, args ...any) {
	s.Helper()
	if err := s.pg.Exec(context.Background(), fmt.Sprintf(format, args...)); err != nil {
		s.Fatal(err)
	}
}

// session is a connection as the superuser.
func (s *server) session() *pgx.Conn {
	s.Helper()
	conn, err := s.pg.Connect(s.Context(), "postgres", nil)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// lock returns the statement wait, which blocks whoever runs it between calls of hold and
// release, as long as a statement may take: the shorter time for locks does not count.
func (s *server) lock() (wait string, hold func() (release func())) {
	key := counter.Add(1)
	hold = func() func() {
		s.Helper()
		conn := s.session()
		if _, err := conn.Exec(s.Context(), "SELECT pg_advisory_lock($1)", key); err != nil {
			s.Fatal(err)
		}
		return func() { _ = conn.Close(context.Background()) }
	}
	return fmt.Sprintf("SELECT set_config('lock_timeout', '0', true), pg_advisory_xact_lock(%d)", key), hold
}

// logIn tries a user's password, as an application does.
func logIn(t *testing.T, user, password any) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, pgtest.Shared.DSN(fmt.Sprint(user), fmt.Sprint(password), "postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
