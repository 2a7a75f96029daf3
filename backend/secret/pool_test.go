package secret

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

func (b *bench) sessions(ctx context.Context, conn *pgx.Conn) (n int) {
	b.t.Helper()
	err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", b.admin.Username).Scan(&n)
	must(b.t, err)
	return n
}

func TestPoolIsBoundedAndClosed(t *testing.T) {
	b := newBench(t, shared)
	b.connection.Config.MaxOpenConnections = 2
	watch := connect(t, shared)
	done := make(chan error)
	for range 10 {
		go func() {
			done <- b.postgres.administer(context.Background(), "main", rollback, func(conn *pgx.Conn, _ server) error {
				return execute(context.Background(), conn, "SELECT pg_sleep(0.05)")
			})
		}()
	}
	most := 0
	for finished := 0; finished < 10; {
		select {
		case err := <-done:
			must(t, err)
			finished++
		default:
			most = max(most, b.sessions(t.Context(), watch))
		}
	}
	if most < 1 || most > 2 {
		t.Errorf("there were up to %d connections, want 1 to 2", most)
	}
	b.postgres.Forget("main")
	b.gone(watch)
}

// gone waits until the administrator has no session any more.
func (b *bench) gone(watch *pgx.Conn) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	must(b.t, testenv.Eventually(ctx, "no sessions", func(ctx context.Context) error {
		if n := b.sessions(ctx, watch); n > 0 {
			return errors.New("there are sessions")
		}
		return nil
	}))
}

// TestForgetDoesNotWait also checks that a changed connection is followed, and
// that a connection in use is left to its user.
func TestForgetDoesNotWait(t *testing.T) {
	b := newBench(t, shared)
	watch := connect(t, shared)
	err := b.postgres.administer(t.Context(), "main", rollback, func(conn *pgx.Conn, _ server) error {
		began := time.Now()
		b.postgres.Forget("main")
		b.connection.Config.Database = "template1"
		err := b.postgres.administer(t.Context(), "main", rollback, func(conn *pgx.Conn, _ server) error {
			if conn.Config().Database != "template1" {
				t.Errorf("got database %s", conn.Config().Database)
			}
			return nil
		})
		if took := time.Since(began); took > time.Second {
			t.Errorf("forgetting took %s", took)
		}
		return errors.Join(err, execute(t.Context(), conn, "SELECT 1"))
	})
	must(t, err)
	b.postgres.Close()
	b.gone(watch)
	if err := b.postgres.administer(t.Context(), "main", rollback, nil); err == nil {
		t.Error("a closed Postgres was used")
	}
}

// TestForgetInterruptsNobody changes the connection some times while it is used:
// those who were about to connect go on with the new one.
func TestForgetInterruptsNobody(t *testing.T) {
	b := newBench(t, shared)
	var using sync.WaitGroup
	for range 8 {
		using.Go(func() {
			for range 5 {
				if err := b.postgres.administer(t.Context(), "main", rollback, func(*pgx.Conn, server) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 10 {
		<-time.After(10 * time.Millisecond)
		b.postgres.Forget("main")
	}
	using.Wait()
}

// TestAdminRotationIsFollowed lets the server accept only the second login, and
// later only the first again.
func TestAdminRotationIsFollowed(t *testing.T) {
	b := newBench(t, shared)
	pending := Login{b.admin.Username, randomPassword()}
	b.connection.Logins = []Login{b.admin, pending}
	nothing := func(*pgx.Conn, server) error { return nil }
	for _, accepted := range []Login{b.admin, pending, b.admin} {
		b.accept(accepted)
		b.pgEnd()
		must(t, b.postgres.administer(t.Context(), "main", rollback, nothing))
	}
	b.sql("ALTER ROLE %s PASSWORD 'third'", quoteName(b.admin.Username))
	b.pgEnd()
	err := b.postgres.administer(t.Context(), "main", rollback, nothing)
	if !loginRefused(err) {
		t.Fatalf("got %v, want that the login is refused", err)
	}
	wantSecretFree(t, err.Error(), databaseMaterial("", b.admin.Password), databaseMaterial("", pending.Password))
}

// TestAdminRotationWhileItLogsIn rotates the administrator's password between the
// moment when it is read and the moment when the server checks it.
func TestAdminRotationWhileItLogsIn(t *testing.T) {
	nothing := func(*pgx.Conn, server) error { return nil }
	uses := map[string]struct {
		lookups int // until it logs in
		use     func(b *bench) error
	}{
		"to change": {3, func(b *bench) error { return b.postgres.administer(t.Context(), "main", rollback, nothing) }},
		"to look":   {2, func(b *bench) error { return b.postgres.look(t.Context(), "main", nothing) }},
	}
	for name, later := range map[string]func(old, rotated Login) []Login{
		"in flight": func(old, rotated Login) []Login { return []Login{old, rotated} },
		"committed": func(_, rotated Login) []Login { return []Login{rotated} },
	} {
		for purpose, u := range uses {
			t.Run(purpose+", "+name, func(t *testing.T) {
				b := newBench(t, shared)
				rotated := Login{b.admin.Username, randomPassword()}
				b.accept(rotated)
				lookup, lookups := b.postgres.lookup, 0
				b.postgres.lookup = func(name string) (Connection, error) {
					read, err := lookup(name)
					if lookups++; lookups == u.lookups {
						b.connection.Logins = later(b.admin, rotated)
					}
					return read, err
				}
				must(t, u.use(b))
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
		first   int32                              // the login that is tried first; the server takes the other one
		between []func(b *bench, rotated [3]Login) // what happens after each attempt
	}{
		"one": {1, []func(*bench, [3]Login){
			func(b *bench, rotated [3]Login) { b.accept(rotated[0]) },
		}},
		"three": {0, []func(*bench, [3]Login){
			func(b *bench, rotated [3]Login) { b.connection.Logins = []Login{rotated[0], rotated[1]} },
			func(b *bench, rotated [3]Login) { b.accept(rotated[1]) },
			func(b *bench, rotated [3]Login) { b.connection.Logins = []Login{rotated[1], rotated[2]} },
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, shared)
			var rotated [3]Login
			for i := range rotated {
				rotated[i] = Login{b.admin.Username, randomPassword()}
			}
			b.connection.Logins = []Login{b.admin, rotated[0]}
			from, err := b.postgres.pool(t.Context(), "main")
			must(t, err)
			from.login.Store(test.first)
			b.accept(b.connection.Logins[1-test.first])
			lookup, lookups := b.postgres.lookup, 0
			const perAttempt = 4
			b.postgres.lookup = func(name string) (Connection, error) {
				if attempt := lookups / perAttempt; attempt > 0 && lookups%perAttempt == 0 && attempt <= len(test.between) {
					test.between[attempt-1](b, rotated)
				}
				lookups++
				return lookup(name)
			}
			must(t, b.postgres.administer(t.Context(), "main", rollback, func(*pgx.Conn, server) error { return nil }))
			if refused := lookups / perAttempt; refused != len(test.between)+1 {
				t.Errorf("%d attempts were refused", refused)
			}
		})
	}
}

// accept makes the server accept that login of the administrator, and no other.
func (b *bench) accept(l Login) {
	b.t.Helper()
	b.sql("ALTER ROLE %s PASSWORD %s", quoteName(l.Username), quoteLiteral(l.Password))
}

// pgEnd ends the administrator's sessions, so that the next use logs in again.
func (b *bench) pgEnd() {
	b.t.Helper()
	b.sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", quoteLiteral(b.admin.Username))
}

func TestPausedEngineCannotCommit(t *testing.T) {
	b := newBench(t, shared)
	var timeout string
	must(t, b.postgres.administer(t.Context(), "main", rollback, func(conn *pgx.Conn, _ server) error {
		return queryRow(t.Context(), conn, "SELECT current_setting('idle_in_transaction_session_timeout')", nil, &timeout)
	}))
	if timeout != "5s" {
		t.Errorf("a transaction may idle for %s", timeout)
	}
}
