package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

func TestPoolIsBoundedAndClosed(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	b.Connection.Settings.MaxOpenConnections = 2
	watch := pgtest.Connect(t, pgtest.Shared)
	done := make(chan error)
	for range 10 {
		go func() {
			done <- b.Postgres.Administer(context.Background(), "main", postgres.Rollback, func(conn *pgx.Conn, _ postgres.Server) error {
				return postgres.Execute(context.Background(), conn, "SELECT pg_sleep(0.05)")
			})
		}()
	}
	most := 0
	for finished := 0; finished < 10; {
		select {
		case err := <-done:
			expect.OK(t, err)
			finished++
		default:
			most = max(most, b.AdminSessions(t.Context(), watch))
		}
	}
	most = max(most, b.AdminSessions(t.Context(), watch)) // those that are kept
	if most < 1 || most > 2 {
		t.Errorf("there were up to %d connections, want 1 to 2", most)
	}
	b.Postgres.Forget("main")
	b.Gone(watch)
}

// TestForgetDoesNotWait also checks that a changed connection is followed, and
// that a connection in use is left to its user.
func TestForgetDoesNotWait(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	watch := pgtest.Connect(t, pgtest.Shared)
	err := b.Postgres.Administer(t.Context(), "main", postgres.Rollback, func(conn *pgx.Conn, _ postgres.Server) error {
		began := time.Now()
		b.Postgres.Forget("main")
		b.Connection.Settings.Database = "template1"
		err := b.Postgres.Administer(t.Context(), "main", postgres.Rollback, func(conn *pgx.Conn, _ postgres.Server) error {
			if conn.Config().Database != "template1" {
				t.Errorf("got database %s", conn.Config().Database)
			}
			return nil
		})
		if took := time.Since(began); took > time.Minute { // with a login of a new session
			t.Errorf("forgetting took %s", took)
		}
		return errors.Join(err, postgres.Execute(t.Context(), conn, "SELECT 1"))
	})
	expect.OK(t, err)
	b.Postgres.Close()
	b.Gone(watch)
	if err := b.Postgres.Administer(t.Context(), "main", postgres.Rollback, nil); err == nil {
		t.Error("a closed Postgres was used")
	}
}

// TestForgetInterruptsNobody changes the connection some times while it is used:
// those who were about to connect go on with the new one.
func TestForgetInterruptsNobody(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	var using sync.WaitGroup
	for range 8 {
		using.Go(func() {
			for range 5 {
				if err := b.Postgres.Administer(t.Context(), "main", postgres.Rollback, func(*pgx.Conn, postgres.Server) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 10 {
		<-time.After(10 * time.Millisecond)
		b.Postgres.Forget("main")
	}
	using.Wait()
}

// TestAdminRotationIsFollowed lets the server accept only the second login, and
// later only the first again.
func TestAdminRotationIsFollowed(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	pending := postgres.Login{b.Admin.Username, postgres.RandomPassword()}
	b.Connection.Logins = []postgres.Login{b.Admin, pending}
	nothing := func(*pgx.Conn, postgres.Server) error { return nil }
	for _, accepted := range []postgres.Login{b.Admin, pending, b.Admin} {
		b.Accept(accepted)
		b.EndAdminSessions()
		expect.OK(t, b.Postgres.Administer(t.Context(), "main", postgres.Rollback, nothing))
	}
	b.SQL("ALTER ROLE %s PASSWORD 'third'", postgres.QuoteName(b.Admin.Username))
	b.EndAdminSessions()
	err := b.Postgres.Administer(t.Context(), "main", postgres.Rollback, nothing)
	if !postgres.LoginRefused(err) {
		t.Fatalf("got %v, want that the login is refused", err)
	}
	expect.SecretFree(t, err.Error(), postgres.Material("", b.Admin.Password), postgres.Material("", pending.Password))
}

// TestAdminRotationWhileItLogsIn rotates the administrator's password between the
// moment when it is read and the moment when the server checks it.
func TestAdminRotationWhileItLogsIn(t *testing.T) {
	nothing := func(*pgx.Conn, postgres.Server) error { return nil }
	uses := map[string]struct {
		lookups int // until it logs in
		use     func(b *pgtest.Bench) error
	}{
		"to change": {3, func(b *pgtest.Bench) error {
			return b.Postgres.Administer(t.Context(), "main", postgres.Rollback, nothing)
		}},
		"to look": {2, func(b *pgtest.Bench) error { return b.Postgres.Look(t.Context(), "main", nothing) }},
	}
	for name, later := range map[string]func(old, rotated postgres.Login) []postgres.Login{
		"in flight": func(old, rotated postgres.Login) []postgres.Login { return []postgres.Login{old, rotated} },
		"committed": func(_, rotated postgres.Login) []postgres.Login { return []postgres.Login{rotated} },
	} {
		for purpose, u := range uses {
			t.Run(purpose+", "+name, func(t *testing.T) {
				b := pgtest.NewBench(t, pgtest.Shared)
				rotated := postgres.Login{b.Admin.Username, postgres.RandomPassword()}
				b.Accept(rotated)
				lookup, lookups := b.Lookup, 0
				b.Lookup = func(name string) (postgres.Connection, error) {
					read, err := lookup(name)
					if lookups++; lookups == u.lookups {
						b.Connection.Logins = later(b.Admin, rotated)
					}
					return read, err
				}
				expect.OK(t, u.use(b))
				if lookups <= u.lookups {
					t.Errorf("the login was looked up %d times only", lookups)
				}
			})
		}
	}
}

// TestAdminRotationBetweenAttempts lets rotations of the administrator go on between
// attempts to log in, so that each is refused though one password always works.
func TestAdminRotationBetweenAttempts(t *testing.T) {
	for name, test := range map[string]struct {
		first   int32                                              // the login that is tried first; the server takes the other one
		between []func(b *pgtest.Bench, rotated [3]postgres.Login) // what happens after each attempt
	}{
		"one": {1, []func(*pgtest.Bench, [3]postgres.Login){
			func(b *pgtest.Bench, rotated [3]postgres.Login) { b.Accept(rotated[0]) },
		}},
		"three": {0, []func(*pgtest.Bench, [3]postgres.Login){
			func(b *pgtest.Bench, rotated [3]postgres.Login) {
				b.Connection.Logins = []postgres.Login{rotated[0], rotated[1]}
			},
			func(b *pgtest.Bench, rotated [3]postgres.Login) { b.Accept(rotated[1]) },
			func(b *pgtest.Bench, rotated [3]postgres.Login) {
				b.Connection.Logins = []postgres.Login{rotated[1], rotated[2]}
			},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := pgtest.NewBench(t, pgtest.Shared)
			var rotated [3]postgres.Login
			for i := range rotated {
				rotated[i] = postgres.Login{b.Admin.Username, postgres.RandomPassword()}
			}
			b.Connection.Logins = []postgres.Login{b.Admin, rotated[0]}
			expect.OK(t, b.Postgres.TryFirst(t.Context(), "main", test.first))
			b.Accept(b.Connection.Logins[1-test.first])
			lookup, lookups := b.Lookup, 0
			const perAttempt = 4
			b.Lookup = func(name string) (postgres.Connection, error) {
				if attempt := lookups / perAttempt; attempt > 0 && lookups%perAttempt == 0 && attempt <= len(test.between) {
					test.between[attempt-1](b, rotated)
				}
				lookups++
				return lookup(name)
			}
			expect.OK(t, b.Postgres.Administer(t.Context(), "main", postgres.Rollback, func(*pgx.Conn, postgres.Server) error { return nil }))
			if refused := lookups / perAttempt; refused != len(test.between)+1 {
				t.Errorf("%d attempts were refused", refused)
			}
		})
	}
}

func TestPausedEngineCannotCommit(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	var timeout string
	expect.OK(t, b.Postgres.Administer(t.Context(), "main", postgres.Rollback, func(conn *pgx.Conn, _ postgres.Server) error {
		return postgres.QueryRow(t.Context(), conn, "SELECT current_setting('idle_in_transaction_session_timeout')", nil, &timeout)
	}))
	if timeout != "5s" {
		t.Errorf("a transaction may idle for %s", timeout)
	}
}
