package secret

import (
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// rolpassword is what the server keeps of a user's password.
func (b *bench) rolpassword(user string) (kept string) {
	b.t.Helper()
	must(b.t, connect(b.t, b.pg).QueryRow(b.t.Context(), "SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = $1", user).Scan(&kept))
	return kept
}

// TestUndoSetsTheSameVerifier undoes what was set, of every type that has a password.
func TestUndoSetsTheSameVerifier(t *testing.T) {
	b := newBench(t, shared)
	users := b.pair(unique("a"), unique("b"))
	single, singleSecret := b.database(DatabaseConfig{Usernames: []string{b.user(unique("app"))}})
	double, doubleSecret := b.database(DatabaseConfig{Usernames: users})
	root := secretOf(t, "connection", b.config())
	root.Current = b.value(databaseMaterial(b.admin.Username, b.admin.Password))
	for name, c := range map[string]struct {
		driver interface {
			Values
			rotation.Completer
		}
		secret rotation.Secret
	}{"single_user": {single, singleSecret}, "alternating_users": {double, doubleSecret}, "administrator": {NewAdmin(b.postgres).(*admin), root}} {
		t.Run(name, func(t *testing.T) {
			s := c.secret
			next := func() *rotation.Value {
				v, err := c.driver.Create(t.Context(), s)
				must(t, err)
				must(t, c.driver.Set(t.Context(), s, v, unfenced))
				if kept := b.rolpassword(v["username"]); kept == "" || kept != v["verifier"] {
					t.Fatal("the server keeps another verifier than the value")
				}
				if again, err := c.driver.Complete(s, v); err != nil || !again.Equal(v) {
					t.Error("a whole value is completed")
				}
				return b.value(v)
			}
			for range 2 {
				made := next()
				s.Previous, s.Current = s.Current, made
			}
			if s.Previous != nil {
				s.Previous.RetireTime = b.now.Add(week)
			}
			s.Pending = next()
			must(t, c.driver.Undo(t.Context(), s, unfenced))
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
