package drift

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/connections"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestSlowTries goes through the rounds of everything that is stored: each login is
// tried in each of them, and what is refused in one may be accepted in the next.
func TestSlowTries(t *testing.T) {
	s := newServer(t)
	first := s.role("r")
	s.login(first, "one", []string{s.user()})
	s.login(first, "two", s.pair())
	s.create(first, "jwt", "jwt", map[string]string{})
	s.done(s.start(first, rotation.Request{Kind: rotation.KindRotate}))
	s.create(s.role("keys"), "jwt", "jwt", map[string]string{})
	r := s.role("z")
	s.login(r, "db", []string{s.user()})
	c := New(s.ports)
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
	login := s.changed(r)
	if got := fmt.Sprint(tries()); got != want || len(c.refused(r)) != 1 {
		t.Errorf("it has tried %v, and found %v", got, c.refused(r))
	}
	s.sql("ALTER ROLE %s PASSWORD '%s'", login.Username, login.Password)
	if tries(); len(c.refused(r)) != 0 {
		t.Errorf("what is accepted again is found to be %v", c.refused(r))
	}
}

// TestSweepComesBack has a sweep meet a rotation that is under way: what that used may be
// of the server before, so that its role is tried again soon, and not with the next round.
func TestSweepComesBack(t *testing.T) {
	s := newServer(t)
	r, key := s.role("r"), counter.Add(1)
	s.login(r, "db", s.pair(), fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", key))
	conn, err := pgtest.Shared.Connect(t.Context(), "postgres", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock($1)", key); err != nil {
		t.Fatal(err)
	}
	run := s.start(r, rotation.Request{Kind: rotation.KindRotate})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if at := run.Progress(); at != nil && at.Step == "test" && at.Secret == "db" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the test of the pending value is not reached: %+v", run.Progress())
		}
	}
	c := New(s.ports)
	c.ConnectionMoved("main")
	for range 3 { // main, r, and the end of the sweep
		c.step(t.Context(), "main")
	}
	again := c.sweeps["main"]
	if again == nil || !again.isAgain || len(again.again) != 1 || again.again[0] != r || time.Until(again.at) > watchEvery {
		t.Fatalf("what is left to be tried is %+v", again)
	}
	if !c.Interrupted("main") {
		t.Error("nothing is waited for")
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.done(run)
	if v := r.Snapshot().Version; v != 2 || r.Busy() {
		t.Fatalf("the rotation ends with version %d", v)
	}
	s.changed(r)
	for range 2 { // r, and the end
		c.step(t.Context(), "main")
	}
	if len(c.refused(r)) != 1 || c.sweeps["main"] != nil || c.Interrupted("main") {
		t.Errorf("it has found %v, and has still to try %+v", c.refused(r), c.sweeps["main"])
	}
}

// late is an engine whose answers are late: something else happens before they come.
type late struct {
	Engine
	meanwhile func()
}

func (l late) Refused(ctx context.Context, s rotation.Secret) ([]string, error) {
	refused, err := l.Engine.Refused(ctx, s)
	l.meanwhile()
	return refused, err
}

// TestRepairedMeanwhile has a server refuse a login that is set again before this is noted.
func TestRepairedMeanwhile(t *testing.T) {
	s := newServer(t)
	r := s.role("r")
	s.login(r, "db", []string{s.user()})
	s.changed(r)
	engine := s.ports.Engine
	s.ports.Engine = late{engine, func() { s.done(s.start(r, rotation.Request{Kind: rotation.KindRepair})) }}
	one := Logins(r, "main")[0]
	c := New(s.ports)
	if _, err := c.Check(t.Context(), one); !errors.Is(err, rotation.ErrInFlight) || len(c.refused(r)) != 0 {
		t.Errorf("the login is tried with %v, and found is %v", err, c.refused(r))
	}
	c.ports.Engine = engine
	if _, err := c.Check(t.Context(), one); err != nil || len(c.refused(r)) != 0 {
		t.Errorf("the login is tried again with %v, and found is %v", err, c.refused(r))
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
	s := newServer(t)
	s.ports.Settings = func(context.Context) (Settings, error) { return Settings{Repair: true, Interval: time.Hour}, nil }
	r := s.role("z")
	s.login(r, "db", []string{s.user()})
	for name, failures := range map[string]int{"while it is gone": 0, "after failures": 3} {
		t.Run(name, func(t *testing.T) {
			s.changed(r)
			c := New(s.ports)
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

// TestRepairWaitsForTheAdministrator finds that a server refuses a role's login before the
// administrator's was tried, which it refuses too: nothing is set again in vain.
func TestRepairWaitsForTheAdministrator(t *testing.T) {
	s := newServer(t)
	s.ports.Settings = func(context.Context) (Settings, error) { return Settings{Repair: true, Interval: time.Hour}, nil }
	r := s.role("z")
	s.login(r, "db", []string{s.user()})
	before := r.Snapshot().History.Count
	s.changed(r)
	s.sql("ALTER ROLE %s PASSWORD 'forgotten'", s.admin.Username)
	c := New(s.ports)
	if asked, err := c.look(t.Context(), r, "main"); !asked || err != nil {
		t.Fatal(asked, err)
	}
	if len(c.refused(r)) != 1 || len(c.refused(s.registry.Known(roles.ConnectionPrefix+"main"))) != 1 || c.repairs[r.Key].at.IsZero() {
		t.Errorf("it has found %v, and will try %v", c.found, c.repairs)
	}
	if n := r.Snapshot().History.Count; n != before {
		t.Errorf("%d operations were tried", n-before)
	}
	connection := s.registry.Known(roles.ConnectionPrefix + "main")
	const first, again = "So first read connections/main, and do what its advice says. Then write verify/z with repair=true", "promoted, or Vault or the server was restored from an older state. Write verify/z with repair=true"
	if advice := c.Advice(r); !strings.Contains(advice, first) {
		t.Errorf("the advice begins elsewhere: %s", advice)
	}
	if advice := c.Advice(connection); !strings.Contains(advice, "write it to connections/main") || strings.Contains(advice, "So first") {
		t.Errorf("the connection's advice is %s", advice)
	}
	c.Forget(connection, []string{connections.Admin})
	if advice := c.Advice(r); !strings.Contains(advice, again) {
		t.Errorf("once the administrator's login is accepted, the advice is %s", advice)
	}
}

// TestFirstAnswer has a server become another one before the first was asked who it is,
// such as soon after the connection was written: what is stored is tried all the same.
func TestFirstAnswer(t *testing.T) {
	s := newServer(t)
	r := s.role("z")
	s.login(r, "db", []string{s.user()})
	s.changed(r)
	for _, failing := range []bool{false, true} {
		c := New(s.ports)
		w := &watch{failing: failing}
		c.watched["main"] = w
		c.round = round{tried: time.Now()}
		c.ask(t.Context(), "main", w)
		for range 2 { // the administrator, z
			c.next(t.Context())
		}
		if len(c.refused(r)) != 1 {
			t.Errorf("failing before: %t: it has found %v", failing, c.refused(r))
		}
	}
}

// TestSameServerIsBack has a sweep be put off because a server that is known did not answer:
// it goes on as soon as the server does.
func TestSameServerIsBack(t *testing.T) {
	c, w := New(newServer(t).ports), &watch{}
	c.watched["main"] = w
	c.ask(t.Context(), "main", w)
	c.putOff("main", c.sweeps["main"], errors.New("silent"))
	if _, wait := c.dueSweep(time.Now()); wait <= 0 {
		t.Error("the sweep is not put off")
	}
	c.ask(t.Context(), "main", w)
	if name, wait := c.dueSweep(time.Now()); name != "main" || wait > 0 {
		t.Errorf("the sweep of %q goes on in %s", name, wait)
	}
}

// TestAnotherServer says of which answers everything is tried again.
func TestAnotherServer(t *testing.T) {
	a, b := postgres.Identity{System: "1", Timeline: "1"}, postgres.Identity{System: "1", Timeline: "2"}
	refused, unsure, silent := fmt.Errorf("%w", rotation.ErrRefused), fmt.Errorf("%w", postgres.ErrUncertain), errors.New("silent")
	w := &watch{}
	for i, step := range []struct {
		seen    postgres.Identity
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
