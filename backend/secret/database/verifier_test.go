package database

import (
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// rolpassword is what the server keeps of a user's password.
func (b *bench) rolpassword(user string) (kept string) {
	b.T.Helper()
	expect.OK(b.T, pgtest.Connect(b.T, b.PG).QueryRow(b.T.Context(), "SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = $1", user).Scan(&kept))
	return kept
}

// TestUndoSetsTheSameVerifier undoes what was set, of every type that has a password.
func TestUndoSetsTheSameVerifier(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	users := b.Pair(pgtest.Unique("a"), pgtest.Unique("b"))
	single, singleSecret := b.database(Config{Usernames: []string{b.User(pgtest.Unique("app"))}})
	double, doubleSecret := b.database(Config{Usernames: users})
	own := newBench(t, pgtest.Shared) // the others log in as their administrator
	root := conformance.SecretOf(t, "connection", own.Config())
	root.Current = own.Value(postgres.Material(own.Admin.Username, own.Admin.Password))
	for name, c := range map[string]struct {
		bench  *bench
		driver interface {
			secret.Values
			rotation.Completer
		}
		secret rotation.Secret
	}{"single_user": {b, single, singleSecret}, "alternating_users": {b, double, doubleSecret}, "administrator": {own, NewAdmin(own.Postgres).(*admin), root}} {
		t.Run(name, func(t *testing.T) {
			b, s := c.bench, c.secret
			next := func() *rotation.Value {
				v, err := c.driver.Create(t.Context(), s)
				expect.OK(t, err)
				expect.OK(t, c.driver.Set(t.Context(), s, v, conformance.Unfenced))
				if kept := b.rolpassword(v["username"]); kept == "" || kept != v["verifier"] {
					t.Fatal("the server keeps another verifier than the value")
				}
				if again, err := c.driver.Complete(s, v); err != nil || !again.Equal(v) {
					t.Error("a whole value is completed")
				}
				return b.Value(v)
			}
			for range 2 {
				made := next()
				s.Previous, s.Current = s.Current, made
			}
			if s.Previous != nil {
				s.Previous.RetireTime = b.Now.Add(week)
			}
			s.Pending = next()
			expect.OK(t, c.driver.Undo(t.Context(), s, conformance.Unfenced))
			for _, v := range []*rotation.Value{s.Current, s.Previous} {
				if v.Material["username"] == s.Pending.Material["username"] {
					if b.rolpassword(v.Material["username"]) != v.Material["verifier"] {
						t.Error("undo sets another verifier")
					}
					break
				}
			}
		})
	}
}
