package backend

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// tryLogins tries everything that is stored, at once.
func (m *mount) tryLogins() {
	m.Helper()
	for _, r := range m.b.registry.Loaded() {
		for _, one := range logins(r, "") {
			_, _ = m.b.drift.check(m.Context(), one)
		}
	}
}

// TestSlowTries goes through the rounds of everything that is stored: each login is
// tried in each of them, and what is refused in one may be accepted in the next.
func TestSlowTries(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	m.write("roles/keys", nil)
	m.write("secrets/keys/jwt", d("type", "jwt"))
	m.write("roles/z", nil)
	m.write("secrets/z/db", d("type", "database", "connection", "main", "usernames", s.user()))
	r := m.b.registry.Known(roles.Prefix + "z")
	creds := m.read("creds/z/db", nil)
	c := newDrift(m.b) // which tries nothing by itself
	tries := func() (roles []string) {
		for range 4 { // main, r, z, and the end of the round
			c.slowly(t.Context())
			roles = append(roles, c.round.key)
		}
		return roles
	}
	const want = "[connection/main role/r role/z ]"
	if got := fmt.Sprint(tries()); got != want || len(c.refused(r)) != 0 || c.round.logins != 1 {
		t.Errorf("it has tried %v, want %s, and found %v", got, want, c.refused(r))
	}
	s.sql("ALTER ROLE %s PASSWORD 'changed-by-hand'", creds["username"])
	if got := fmt.Sprint(tries()); got != want || len(c.refused(r)) != 1 {
		t.Errorf("it has tried %v, and found %v", got, c.refused(r))
	}
	s.sql("ALTER ROLE %s PASSWORD '%s'", creds["username"], creds["password"])
	if tries(); len(c.refused(r)) != 0 {
		t.Errorf("what is accepted again is found to be %v", c.refused(r))
	}
}

// TestSweepComesBack has a sweep meet a rotation that is under way: what that used may be
// of the server before, so that its role is tried again soon, and not with the next round.
func TestSweepComesBack(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/r", nil)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", s.pair()))
	wait, release := s.hold()
	m.write("secrets/r/db", d("verification_statements", []any{wait}))
	m.write("rotate/r", d("wait", 0))
	m.eventually("the test of the pending value", func() bool {
		op, _ := m.read("status/r", nil)["in_flight"].(map[string]any)
		return op["step"] == "test" && op["secret"] == "db"
	})
	r := m.b.registry.Known(roles.Prefix + "r")
	c := newDrift(m.b) // which tries nothing by itself
	c.connectionMoved("main")
	for range 3 { // main, r, and the end of the sweep
		c.step(t.Context(), "main")
	}
	again := c.sweeps["main"]
	if again == nil || !again.isAgain || len(again.again) != 1 || again.again[0] != r || time.Until(again.at) > watchEvery {
		t.Fatalf("what is left to be tried is %+v", again)
	}
	release()
	m.becomes("r", 2)
	m.eventually("the end of the rotation", func() bool { return !r.Busy() })
	s.sql("ALTER ROLE %s PASSWORD 'of-the-server-before'", m.read("creds/r", nil)["db_username"])
	for range 2 { // r, and the end
		c.step(t.Context(), "main")
	}
	if len(c.refused(r)) != 1 || c.sweeps["main"] != nil {
		t.Errorf("it has found %v, and has still to try %+v", c.refused(r), c.sweeps["main"])
	}
}

// TestPace spreads the tries over the interval, with never more than one in a second.
func TestPace(t *testing.T) {
	for logins, want := range map[int]time.Duration{0: time.Hour, 1: time.Hour, 360: 10 * time.Second, 3600: time.Second, 10_000: time.Second} {
		if got := paceOf(time.Hour, logins); got != want {
			t.Errorf("%d logins are tried every %s, want %s", logins, got, want)
		}
	}
}

// TestRepairsThatFail are tried less and less often.
func TestRepairsThatFail(t *testing.T) {
	now, again := time.Now(), retry{}
	for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour} {
		if again = again.after(now); again.at.Sub(now) != want {
			t.Errorf("after %d failures it waits %s, want %s", again.failures, again.at.Sub(now), want)
		}
	}
}

// TestRepairWaitsForTheServer finds what a server refuses while that seems to be gone, as
// in a promotion, or after a repair that failed: it is set again when the server answers.
func TestRepairWaitsForTheServer(t *testing.T) {
	m := newMount(t)
	m.write("config", d("on_drift", "repair"))
	s := m.connect()
	m.write("roles/z", nil)
	m.write("secrets/z/db", d("type", "database", "connection", "main", "usernames", s.user()))
	r := m.b.registry.Known(roles.Prefix + "z")
	creds := m.read("creds/z/db", nil)
	for name, failures := range map[string]int{"while it is gone": 0, "after failures": 3} {
		t.Run(name, func(t *testing.T) {
			s.sql("ALTER ROLE %s PASSWORD 'changed-by-hand'", creds["username"])
			c := newDrift(m.b) // which tries nothing by itself
			w := &watch{failing: true}
			c.watched["main"] = w
			if failures > 0 {
				c.repairs[r.Key] = retry{failures, time.Now().Add(time.Hour)}
			}
			look := func() map[string]finding {
				if asked, err := c.look(t.Context(), r, "main"); !asked || err != nil {
					t.Fatal(asked, err)
				}
				return c.refused(r)
			}
			if look(); len(look()) != 1 {
				t.Fatal("it was not found, or set again before the server answered")
			}
			c.ask(t.Context(), "main", w)
			c.next(t.Context())
			if found := look(); len(found) != 0 {
				t.Errorf("when the server has answered, %v is found still", found)
			}
		})
	}
}

// TestAnotherServer says of which answers everything is tried again.
func TestAnotherServer(t *testing.T) {
	a, b := secret.Identity{System: "1", Timeline: "1"}, secret.Identity{System: "1", Timeline: "2"}
	refused, unsure, silent := fmt.Errorf("%w", rotation.ErrRefused), fmt.Errorf("%w", secret.ErrUncertain), errors.New("silent")
	w := &watch{}
	for i, step := range []struct {
		seen    secret.Identity
		err     error
		another bool
	}{
		{a, nil, false},
		{a, nil, false},
		{b, nil, true},
		{a, silent, false},
		{b, nil, false},
		{a, nil, true},
		{a, refused, true},
		{a, refused, false},
		{a, nil, true},
		{a, unsure, true},
		{a, unsure, false},
		{a, nil, false},
	} {
		if got := w.learn(step.seen, step.err, time.Now()); got != step.another {
			t.Errorf("step %d: another server: %t", i, got)
		}
	}
}

// TestDriftIsConfigured has values that would not be kept to.
func TestDriftIsConfigured(t *testing.T) {
	m := newMount(t)
	if c := m.read("config", nil); c["probe_interval"] != int64(3600) || c["on_drift"] != "report" {
		t.Errorf("the defaults are %v and %v", c["probe_interval"], c["on_drift"])
	}
	for field, values := range map[string][]any{"probe_interval": {59, 0, -1, "31d"}, "on_drift": {"mend", ""}} {
		for _, value := range values {
			m.refused(logical.UpdateOperation, "config", d(field, value), field)
		}
	}
	m.write("config", d("probe_interval", "30m", "on_drift", "repair"))
	m.boot()
	if c := m.read("config", nil); c["probe_interval"] != int64(1800) || c["on_drift"] != "repair" {
		t.Errorf("it is %v and %v", c["probe_interval"], c["on_drift"])
	}
}
