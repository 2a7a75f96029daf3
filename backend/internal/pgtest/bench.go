package pgtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Bench is a server with an administrator who has no privileges, and a client that
// knows it as connection "main".
type Bench struct {
	T        testing.TB
	PG       *testenv.Postgres
	Postgres *postgres.Client
	Admin    postgres.Login
	// Connection is what Lookup answers, Now the client's time, and Owner who manages
	// every user. A test may change them at any time.
	Connection postgres.Connection
	Lookup     func(name string) (postgres.Connection, error)
	Now        time.Time
	Owner      postgres.Owner
}

// NewBench makes an administrator on the server, and the client.
func NewBench(t testing.TB, pg *testenv.Postgres) *Bench {
	t.Helper()
	b := &Bench{T: t, PG: pg, Admin: postgres.Login{Username: Unique("admin"), Password: postgres.RandomPassword()}, Now: time.Now(), Owner: postgres.Owner{Mount: "here", Path: "smvm/", Role: "r", Secret: "s"}}
	b.SQL("CREATE ROLE %s LOGIN PASSWORD %s", postgres.QuoteName(b.Admin.Username), postgres.QuoteLiteral(b.Admin.Password))
	b.Connection = postgres.Connection{Settings: postgres.Settings{Config: b.Config()}, Logins: []postgres.Login{b.Admin}}
	b.Lookup = func(name string) (postgres.Connection, error) {
		if name != "main" {
			return postgres.Connection{}, errors.New("no such connection")
		}
		return b.Connection, nil
	}
	b.Postgres = postgres.New(func(name string) (postgres.Connection, error) { return b.Lookup(name) }, b.Owners)
	b.Postgres.Now = func() time.Time { return b.Now }
	t.Cleanup(b.Postgres.Close)
	return b
}

// Owners answers Owner.
func (b *Bench) Owners(context.Context, string, string) (postgres.Owner, error) { return b.Owner, nil }

// Config leads to the server without TLS.
func (b *Bench) Config() postgres.Config {
	return postgres.Config{Host: b.PG.Host, Port: b.PG.Port, Database: "postgres", SSLMode: "disable"}
}

// SQL runs statements as the superuser.
func (b *Bench) SQL(format string, args ...any) {
	b.T.Helper()
	if err := b.PG.Exec(context.Background(), fmt.Sprintf(format, args...)); err != nil {
		b.T.Fatal(err)
	}
}

// User creates a user whom the administrator may give passwords.
func (b *Bench) User(name string) string {
	b.T.Helper()
	b.SQL("DROP ROLE IF EXISTS %[1]s; CREATE ROLE %[1]s LOGIN", postgres.QuoteName(name))
	b.Permit(name)
	return name
}

// Permit lets the administrator give a user passwords.
func (b *Bench) Permit(name string) {
	b.T.Helper()
	admin := postgres.QuoteName(b.Admin.Username)
	b.SQL("ALTER ROLE %s CREATEROLE", admin)
	if b.PG.Version >= 160000 {
		b.SQL("GRANT %s TO %s WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", postgres.QuoteName(name), admin)
	}
}

// Pair creates two users who share an owner role.
func (b *Bench) Pair(names ...string) []string {
	owner := Unique("owner")
	b.SQL("CREATE ROLE %s", owner)
	for _, name := range names {
		b.User(name)
		b.SQL("GRANT %s TO %s", owner, postgres.QuoteName(name))
	}
	return names
}

// Password gives a user a password behind the engine's back.
func (b *Bench) Password(user string) string {
	b.T.Helper()
	password := postgres.RandomPassword()
	b.SQL("ALTER ROLE %s PASSWORD %s", postgres.QuoteName(user), postgres.QuoteLiteral(password))
	return password
}

// Open makes a session of a user, who gets a password for it.
func (b *Bench) Open(user string) *pgx.Conn {
	b.T.Helper()
	return b.OpenWith(user, b.Password(user))
}

// OpenWith makes a session of a user who has that password.
func (b *Bench) OpenWith(user, password string) *pgx.Conn {
	b.T.Helper()
	conn, err := pgx.Connect(b.T.Context(), b.PG.DSN(user, password, "postgres"))
	expect.OK(b.T, err)
	b.T.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// AdminSessions is how many sessions the administrator has.
func (b *Bench) AdminSessions(ctx context.Context, conn *pgx.Conn) (n int) {
	b.T.Helper()
	err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", b.Admin.Username).Scan(&n)
	expect.OK(b.T, err)
	return n
}

// Gone waits until the administrator has no session any more.
func (b *Bench) Gone(watch *pgx.Conn) {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.T.Context(), 10*time.Second)
	defer cancel()
	expect.OK(b.T, testenv.Eventually(ctx, "no sessions", func(ctx context.Context) error {
		if n := b.AdminSessions(ctx, watch); n > 0 {
			return errors.New("there are sessions")
		}
		return nil
	}))
}

// Accept makes the server accept that login of the administrator, and no other.
func (b *Bench) Accept(l postgres.Login) {
	b.T.Helper()
	b.SQL("ALTER ROLE %s PASSWORD %s", postgres.QuoteName(l.Username), postgres.QuoteLiteral(l.Password))
}

// EndAdminSessions ends the administrator's sessions, so that the next use logs in again.
func (b *Bench) EndAdminSessions() {
	b.T.Helper()
	b.SQL("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", postgres.QuoteLiteral(b.Admin.Username))
}

// Server is how to log in to the server, with a change of Config.
func (b *Bench) Server(change func(c *postgres.Config)) postgres.Server {
	b.T.Helper()
	c := b.Config()
	if change != nil {
		change(&c)
	}
	s, err := postgres.NewServer(c)
	expect.OK(b.T, err)
	return s
}

// Connect makes a session of the superuser.
func Connect(t testing.TB, pg *testenv.Postgres) *pgx.Conn {
	t.Helper()
	conn, err := pg.Connect(t.Context(), "postgres", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Value is a value that is made now.
func (b *Bench) Value(m rotation.Material) *rotation.Value {
	return &rotation.Value{Material: m, Version: 1, Created: b.Now}
}
