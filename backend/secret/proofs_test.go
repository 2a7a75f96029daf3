package secret

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// failures counts the logins as a user that the server has refused, by its log.
func (b *bench) failures(user string) int {
	b.t.Helper()
	log, err := os.ReadFile(b.pg.LogPath)
	must(b.t, err)
	return strings.Count(string(log), fmt.Sprintf("password authentication failed for user %q", user))
}

// replaced is a secret in its overlap: it was given two values, one after the other.
func (b *bench) replaced(d Values, s rotation.Secret) rotation.Secret {
	b.t.Helper()
	for range 2 {
		v, err := d.Create(b.t.Context(), s)
		must(b.t, err)
		must(b.t, d.Set(b.t.Context(), s, v, unfenced))
		s.Previous, s.Current = s.Current, b.value(v)
	}
	s.Previous.RetireTime = b.now
	return s
}

// TestFailuresOnPurposeAreBounded counts what operators count who lock users out: the
// logins that the server refused, for each type that logs in.
func TestFailuresOnPurposeAreBounded(t *testing.T) {
	b := newBench(t, shared)
	single, singleSecret := b.database(DatabaseConfig{Usernames: []string{b.user(unique("app"))}})
	double, doubleSecret := b.database(DatabaseConfig{Usernames: b.pair(unique("a"), unique("b"))})
	root := secretOf(t, "connection", b.config())
	root.Current = b.value(databaseMaterial(b.admin.Username, b.admin.Password))
	for _, c := range []struct {
		name string
		Values
		secret rotation.Secret
	}{
		{"single_user", single, singleSecret},
		{"alternating_users", double, doubleSecret},
		{"administrator", NewAdmin(b.postgres), root}, // the last: afterwards the login of the others' connection is refused
	} {
		t.Run(c.name, func(t *testing.T) {
			s := b.replaced(c, c.secret)
			users := []string{s.Current.Material["username"]}
			if other := s.Previous.Material["username"]; other != users[0] {
				users = append(users, other)
				must(t, c.Retire(t.Context(), s, s.Previous.Material, unfenced))
			}
			before := map[string]int{}
			for _, user := range users {
				before[user] = b.failures(user)
			}
			for n := range 6 {
				proofs, err := c.Verify(t.Context(), s)
				must(t, err)
				for _, user := range users {
					made := b.failures(user) - before[user]
					if made > n+1 || before[user]+made > maxProofs {
						t.Errorf("after %d times verify, %d logins as %q failed on purpose", n+1, before[user]+made, user)
					}
					if n == 0 && made != 1 {
						t.Errorf("one verify makes %d logins as %q fail", made, user)
					}
				}
				if told := strings.Join(proofs, "\n"); n == 5 && !strings.Contains(told, "not tried again") || n == 0 && (strings.Contains(told, "not tried again") || !strings.Contains(told, "refused: 28P01")) {
					t.Errorf("time %d, verify says %s", n+1, told)
				}
			}
			at := b.failures(users[len(users)-1])
			if err := c.Retire(t.Context(), s, s.Previous.Material, unfenced); !errors.Is(err, rotation.ErrUnproven) || !strings.Contains(err.Error(), "the last one was refused at") {
				t.Errorf("to retire beyond the limit answers %v", err)
			}
			if b.failures(users[len(users)-1]) != at {
				t.Error("to retire beyond the limit makes a login fail")
			}
			wantRefused(t, c.Probe(t.Context(), s, s.Previous.Material))
			b.now = b.now.Add(proofWindow)
			must(t, c.Retire(t.Context(), s, s.Previous.Material, unfenced))
		})
	}
}

// TestNoFailuresOnPurpose turns proofs off.
func TestNoFailuresOnPurpose(t *testing.T) {
	b := newBench(t, shared)
	b.connection.Config.LeaveUnproven = true
	root := secretOf(t, "connection", b.connection.Config)
	root.Current = b.value(databaseMaterial(b.admin.Username, b.admin.Password))
	single, singleSecret := b.database(DatabaseConfig{Usernames: []string{b.user(unique("app"))}})
	double, doubleSecret := b.database(DatabaseConfig{Usernames: b.pair(unique("a"), unique("b"))})
	for _, c := range []struct {
		name string
		Values
		secret rotation.Secret
	}{
		{"single_user", single, singleSecret},
		{"alternating_users", double, doubleSecret},
		{"administrator", NewAdmin(b.postgres), root}, // the last: afterwards the login of the others' connection is refused
	} {
		t.Run(c.name, func(t *testing.T) {
			s := b.replaced(c, c.secret)
			retired := s.Previous.Material
			if err := c.Retire(t.Context(), s, retired, unfenced); !errors.Is(err, rotation.ErrUnproven) || !strings.Contains(err.Error(), "prove_refusals") {
				t.Errorf("to retire answers %v", err)
			}
			proofs, err := c.Verify(t.Context(), s)
			must(t, err)
			if told := strings.Join(proofs, "\n"); !strings.Contains(told, "not proven: prove_refusals is false") {
				t.Errorf("verify says %s", told)
			}
			for _, user := range []string{retired["username"], s.Current.Material["username"]} {
				if n := b.failures(user); n > 0 {
					t.Errorf("%d logins as %q failed on purpose", n, user)
				}
			}
			wantRefused(t, c.Probe(t.Context(), s, retired)) // it is unusable all the same
		})
	}
}

// TestProofsAreBoundedInMemory counts for more users than are kept.
func TestProofsAreBoundedInMemory(t *testing.T) {
	var p proofs
	now := time.Now()
	for n := range maxProven + 100 {
		p.begin(proven{"server", fmt.Sprint(n)}, now)
	}
	if len(p.of) > maxProven {
		t.Errorf("%d users are kept", len(p.of))
	}
	p.begin(proven{"server", "later"}, now.Add(2*proofWindow))
	if len(p.of) != 1 {
		t.Errorf("%d users are kept whose logins count no longer", len(p.of)-1)
	}
	who := proven{"server", "later"}
	for range 2 * maxProofs { // of logins that did not fail, there is no limit
		p.withdraw(who)
		if _, allowed := p.begin(who, now.Add(2*proofWindow)); !allowed {
			t.Fatal("an attempt that was withdrawn counts")
		}
	}
}
