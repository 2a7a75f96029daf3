package database

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestSetWaitsForOthers sets a value that the server accepts already, while a
// transaction of another node that takes it away again is open. What is set last
// must last.
func TestSetWaitsForOthers(t *testing.T) {
	for _, name := range []string{"single user", "alternating users", "connection"} {
		t.Run(name, func(t *testing.T) {
			s := subjects[name](t)
			one := s.First()
			two := s.Make()
			s.Secret.Pending = s.Value(two)
			s.Apply(two)
			holder := pgtest.Connect(t, pgtest.Shared)
			_, err := holder.Exec(t.Context(), "BEGIN; "+postgres.AlterPassword(two["username"], one["password"]))
			expect.OK(t, err)

			watch := pgtest.Connect(t, pgtest.Shared) // before the time runs in which the server waits for a lock
			ended := make(chan error)
			go func() { ended <- s.Set(t.Context(), s.Secret, two, conformance.Unfenced) }()
			s.waits(watch)
			_, err = holder.Exec(t.Context(), "COMMIT")
			expect.OK(t, err)
			if <-ended != nil { // PostgreSQL refuses to change what was changed meanwhile
				s.Apply(two)
			}
			s.Accepted(two)
		})
	}
}

// TestFenceIsAskedWhileOthersWait tries to change the user when the fence is asked.
// Whoever is to decide next must not be able to, before this transaction has ended.
func TestFenceIsAskedWhileOthersWait(t *testing.T) {
	for _, name := range []string{"single user", "alternating users", "connection", "rotation statements"} {
		t.Run(name, func(t *testing.T) {
			s := subjects[name](t)
			s.First()
			two := s.Make()
			s.Secret.Pending = s.Value(two)
			other := pgtest.Connect(t, pgtest.Shared)
			_, err := other.Exec(t.Context(), "SET lock_timeout = 100")
			expect.OK(t, err)
			asked := 0
			fence := func(ctx context.Context) error {
				asked++
				_, err := other.Exec(ctx, "ALTER ROLE "+postgres.QuoteName(two["username"])+" CONNECTION LIMIT 5")
				if answer := (*pgconn.PgError)(nil); !errors.As(err, &answer) || answer.Code != "55P03" { // lock_not_available
					t.Errorf("the user can be changed when the fence is asked: %v", err)
				}
				return nil
			}
			expect.OK(t, s.Set(t.Context(), s.Secret, two, fence))
			expect.OK(t, s.Undo(t.Context(), s.Secret, fence))
			if asked != 2 {
				t.Errorf("the fence was asked %d times, want once by each change", asked)
			}
		})
	}
}

// TestSetThatDiesWhileItHoldsTheUser ends the session, or the fence by a panic, after the
// password is changed and before that is committed: the user keeps the password there was.
func TestSetThatDiesWhileItHoldsTheUser(t *testing.T) {
	for _, name := range []string{"single user", "alternating users"} {
		t.Run(name, func(t *testing.T) {
			s := subjects[name](t)
			one := s.First()
			two := s.Make()
			s.Secret.Pending = s.Value(two)
			other := pgtest.Connect(t, pgtest.Shared)
			ended := 0
			for what, fence := range map[string]rotation.Fence{
				"session ended": func(ctx context.Context) error {
					return other.QueryRow(ctx, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1", s.Admin.Username).Scan(&ended)
				},
				"panic": func(context.Context) error { panic("of a test") },
			} {
				if err := orPanic(func() error { return s.Set(t.Context(), s.Secret, two, fence) }); err == nil {
					t.Errorf("%s: want an error", what)
				}
				s.Accepted(one)
				s.Refused(two)
			}
			if ended == 0 {
				t.Error("no session was ended")
			}
		})
	}
}

// orPanic runs work, and returns a panic as an error, as a run does.
func orPanic(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return work()
}
