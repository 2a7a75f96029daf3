package database

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// failures counts the logins as a user that the server has refused, by its log.
func (b *bench) failures(user string) int {
	b.T.Helper()
	log, err := os.ReadFile(b.PG.LogPath)
	expect.OK(b.T, err)
	return strings.Count(string(log), fmt.Sprintf("password authentication failed for user %q", user))
}

// replaced is a secret in its overlap: it was given two values, one after the other.
func (b *bench) replaced(d secret.Values, s rotation.Secret) rotation.Secret {
	b.T.Helper()
	for range 2 {
		v, err := d.Create(b.T.Context(), s)
		expect.OK(b.T, err)
		expect.OK(b.T, d.Set(b.T.Context(), s, v, conformance.Unfenced))
		s.Previous, s.Current = s.Current, b.Value(v)
	}
	s.Previous.RetireTime = b.Now
	return s
}

// mostFailures is how many logins of one user may fail on purpose within an hour.
const mostFailures = 4

// TestFailuresOnPurposeAreBounded counts what operators count who lock users out: the
// logins that the server refused, for each type that logs in.
func TestFailuresOnPurposeAreBounded(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	single, singleSecret := b.database(Config{Usernames: []string{b.User(pgtest.Unique("app"))}})
	double, doubleSecret := b.database(Config{Usernames: b.Pair(pgtest.Unique("a"), pgtest.Unique("b"))})
	root := conformance.SecretOf(t, "connection", b.Config())
	root.Current = b.Value(postgres.Material(b.Admin.Username, b.Admin.Password))
	for _, c := range []struct {
		name string
		secret.Values
		secret rotation.Secret
	}{
		{"single_user", single, singleSecret},
		{"alternating_users", double, doubleSecret},
		{"administrator", NewAdmin(b.Postgres), root}, // the last: afterwards the login of the others' connection is refused
	} {
		t.Run(c.name, func(t *testing.T) {
			s := b.replaced(c, c.secret)
			users := []string{s.Current.Material["username"]}
			if other := s.Previous.Material["username"]; other != users[0] {
				users = append(users, other)
				expect.OK(t, c.Retire(t.Context(), s, s.Previous.Material, conformance.Unfenced))
			}
			before := map[string]int{}
			for _, user := range users {
				before[user] = b.failures(user)
			}
			for n := range 6 {
				proofs, err := c.Verify(t.Context(), s)
				expect.OK(t, err)
				for _, user := range users {
					made := b.failures(user) - before[user]
					if made > n+1 || before[user]+made > mostFailures {
						t.Errorf("after %d times verify, %d logins as %q failed on purpose", n+1, before[user]+made, user)
					}
					if n == 0 && made != 1 {
						t.Errorf("one verify makes %d logins as %q fail", made, user)
					}
				}
				if told := strings.Join(proofs, "\n"); n == 5 && !strings.Contains(told, "did not try again") || n == 0 && (strings.Contains(told, "did not try again") || !strings.Contains(told, "refused: 28P01")) {
					t.Errorf("time %d, verify says %s", n+1, told)
				}
			}
			at := b.failures(users[len(users)-1])
			if err := c.Retire(t.Context(), s, s.Previous.Material, conformance.Unfenced); !errors.Is(err, rotation.ErrUnproven) || !strings.Contains(err.Error(), "the server refused the last one at") {
				t.Errorf("to retire beyond the limit answers %v", err)
			}
			if b.failures(users[len(users)-1]) != at {
				t.Error("to retire beyond the limit makes a login fail")
			}
			expect.Refused(t, c.Probe(t.Context(), s, s.Previous.Material))
			b.Now = b.Now.Add(time.Hour)
			expect.OK(t, c.Retire(t.Context(), s, s.Previous.Material, conformance.Unfenced))
		})
	}
}

// TestNoFailuresOnPurpose turns proofs off.
func TestNoFailuresOnPurpose(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	b.Connection.Settings.LeaveUnproven = true
	root := conformance.SecretOf(t, "connection", b.Connection.Settings)
	root.Current = b.Value(postgres.Material(b.Admin.Username, b.Admin.Password))
	single, singleSecret := b.database(Config{Usernames: []string{b.User(pgtest.Unique("app"))}})
	double, doubleSecret := b.database(Config{Usernames: b.Pair(pgtest.Unique("a"), pgtest.Unique("b"))})
	for _, c := range []struct {
		name string
		secret.Values
		secret rotation.Secret
	}{
		{"single_user", single, singleSecret},
		{"alternating_users", double, doubleSecret},
		{"administrator", NewAdmin(b.Postgres), root}, // the last: afterwards the login of the others' connection is refused
	} {
		t.Run(c.name, func(t *testing.T) {
			s := b.replaced(c, c.secret)
			retired := s.Previous.Material
			if err := c.Retire(t.Context(), s, retired, conformance.Unfenced); !errors.Is(err, rotation.ErrUnproven) || !strings.Contains(err.Error(), "prove_refusals") {
				t.Errorf("to retire answers %v", err)
			}
			proofs, err := c.Verify(t.Context(), s)
			expect.OK(t, err)
			if told := strings.Join(proofs, "\n"); !strings.Contains(told, "not proven: prove_refusals is false") {
				t.Errorf("verify says %s", told)
			}
			for _, user := range []string{retired["username"], s.Current.Material["username"]} {
				if n := b.failures(user); n > 0 {
					t.Errorf("%d logins as %q failed on purpose", n, user)
				}
			}
			expect.Refused(t, c.Probe(t.Context(), s, retired)) // it is unusable all the same
		})
	}
}
