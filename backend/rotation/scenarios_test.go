package rotation

import (
	"testing"
	"time"
)

// scenario is one operation with what leads up to it.
type scenario struct {
	name    string
	prepare func(*testing.T, *world)
	request Request
}

func scenarios() []scenario {
	manual := func(kind Kind, secrets ...string) Request {
		return Request{Kind: kind, Trigger: TriggerManual, Secrets: secrets, RequestID: "request", Reason: "test"}
	}
	create := func(name, kind string) Request {
		r := manual(KindCreate)
		r.Added = &Secret{Name: name, Type: kind, Config: []byte(`{}`)}
		return r
	}
	imported := create("app", "single")
	imported.Kind, imported.Supplied = KindImport, Material{"username": "app", "password": "made-by-hand"}
	revoking := manual(KindRotate)
	revoking.RevokePrevious = true
	retire := Request{Kind: KindRetire, Trigger: TriggerSchedule}
	forced := manual(KindRetire)
	forced.Force = true
	return []scenario{
		{"create first", prepare(), create("db", "alternating")},
		{"create key", prepare("db"), create("jwt", "jwt")},
		{"create in place", prepare("db", "jwt"), create("app", "single")},
		{"import", prepare("db", "jwt"), imported},
		{"rotate", prepare("db", "jwt", "app"), manual(KindRotate)},
		{"rotate key only", prepare("jwt"), manual(KindRotate)},
		{"rotate subset", prepare("db", "jwt", "app"), manual(KindRotate, "db", "jwt")},
		{"rotate in overlap", rotated(0, "db", "jwt", "app"), manual(KindRotate)},
		{"rotate in overlap before an outage", away(rotated(0, "db", "jwt", "app")), manual(KindRotate)},
		{"rotate and revoke", prepare("db", "jwt", "app"), revoking},
		{"rotate when retirement is due", rotated(25*time.Hour, "db", "jwt"), manual(KindRotate)},
		{"roll back", rotated(0, "db", "jwt", "app"), manual(KindRollback)},
		{"roll back subset", rotated(0, "db", "jwt", "app"), manual(KindRollback, "db")},
		{"retire", rotated(25*time.Hour, "db", "jwt", "app"), retire},
		{"retire and wait", used(rotated(24*time.Hour, "patient", "jwt")), retire},
		{"retire after a wait", drained(used(rotated(24*time.Hour, "patient", "jwt"))), retire},
		{"retire and wait before an outage", away(used(rotated(24*time.Hour, "patient", "jwt"))), retire},
		{"retire and terminate", used(rotated(25*time.Hour, "strict", "jwt")), retire},
		{"retire before a reader has read", unread(rotated(24*time.Hour-lookAhead, "db", "jwt")), retire},
		{"retire after a reader has read", caughtUp(unread(rotated(24*time.Hour-lookAhead, "jwt", "patient"))), retire},
		{"retire by hand", rotated(time.Hour, "db", "jwt"), manual(KindRetire)},
		{"retire by hand what is asked about", asking(rotated(time.Hour, "jwt", "db")), manual(KindRetire)},
		{"retire by hand what is needed", used(unread(rotated(time.Hour, "strict", "jwt"))), forced},
		{"revoke and terminate", used(prepare("strict", "app")), revoking},
		{"revoke without waiting", used(prepare("patient", "app")), revoking},
		{"retire and ask", asking(rotated(24*time.Hour, "db", "jwt")), retire},
		{"revoke and ask", asking(prepare("db", "jwt")), revoking},
		{"create hidden", prepare("db"), hide(create("api", "hidden"))},
		{"rotate hidden", prepare("db", "api", "app"), manual(KindRotate)},
		{"roll back hidden", rotated(0, "api", "jwt"), manual(KindRollback)},
		{"rotate beside hidden", rotated(25*time.Hour, "db", "api"), manual(KindRotate, "db")},
		{"repair", astray(rotated(0, "db", "jwt", "app")), manual(KindRepair)},
		{"move", elsewhere(rotated(0, "db", "app")), move("app", "db")},
		{"repair elsewhere", elsewhere(astray(rotated(0, "db", "jwt", "app"))), manual(KindRepair)},
		{"roll back elsewhere", elsewhere(rotated(0, "db", "app")), manual(KindRollback)},
		{"rotate what went astray", astray(rotated(0, "db", "app")), manual(KindRotate)},
		{"rotate and watch", watched(false, prepare("db", "jwt", "app")), manual(KindRotate)},
		{"rotate and watch what fails", watched(true, prepare("db", "jwt", "app")), manual(KindRotate)},
		{"rotate, copy and watch", copied(false, prepare("db", "jwt")), manual(KindRotate)},
		{"rotate and copy to what refuses", copied(true, prepare("db", "app")), manual(KindRotate)},
		{"roll back and watch", watched(false, rotated(0, "db", "app")), manual(KindRollback)},
		{"rotate and prune history", pruning(rotated(0, "db", "app")), manual(KindRotate)},
	}
}

var typeOf = map[string]string{"db": "alternating", "jwt": "jwt", "app": "single", "patient": "patient", "strict": "strict", "api": "hidden", "cookie": "jwt"}

// prepare makes a role with these secrets, out of overlap.
func prepare(secrets ...string) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		w.boot(t)
		must(t, w.role.change(t.Context(), nil, func(s *State) error {
			s.Deleted = false
			s.Policy = Policy{AutoRotate: true, Period: 90 * 24 * time.Hour, Overlap: 24 * time.Hour, RefreshInterval: time.Minute}
			return nil
		}))
		for _, name := range secrets {
			_, err := w.do(hide(Request{
				Kind: KindCreate, Trigger: TriggerManual, RequestID: "create " + name,
				Added: &Secret{Name: name, Type: typeOf[name], Config: []byte(`{}`)},
			}))
			must(t, err)
		}
	}
}

// rotated is prepare and a rotation that is some time ago.
func rotated(ago time.Duration, secrets ...string) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		prepare(secrets...)(t, w)
		_, err := w.do(Request{Kind: KindRotate, Trigger: TriggerManual, RequestID: "before"})
		must(t, err)
		w.advance(ago)
	}
}

// away is the same with a process that is started only after the overlap when it has died.
func away(p func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		p(t, w)
		w.outage = 25 * time.Hour
	}
}

// strayed is a password that the engine does not know.
const strayed = "set after the snapshot"

// astray is the same with targets that went on without this storage, as when a
// snapshot of it is restored.
func astray(p func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		p(t, w)
		for _, secret := range w.role.Snapshot().Secrets {
			for _, v := range w.engine.offered(*secret) {
				if user := v.Material["username"]; user != "" {
					w.users[user] = strayed
					w.adrift[identity(v.Material)] = true
				}
			}
		}
	}
}

// elsewhere is the same with a database that is reached elsewhere since.
func elsewhere(p func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		p(t, w)
		w.place = "elsewhere"
	}
}

// pruning is the same with a history that is too long for its limit of two entries.
func pruning(p func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		p(t, w)
		for range 8 {
			_, err := w.do(Request{Kind: KindRotate, Trigger: TriggerManual})
			must(t, err)
		}
		w.settings.Retention = 2
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cell is one scenario under one set of faults.
type cell struct {
	scenario scenario
	faults   []fault
	// late lets the scheduler recover before the request is delivered again.
	late bool
}

// outcome of a cell, for counting.
type outcome struct {
	calls   int  // side effects until all was settled
	died    bool // the process died at least once before the answer
	success bool
}

// play runs a cell and checks everything that must be true afterwards.
func (c cell) play(t testing.TB, base *world) outcome {
	t.Helper()
	w := base.clone()
	w.boot(t)
	defer func() { w.stop() }()
	start := w.role.Snapshot().Version
	w.faults = c.faults
	_, err := w.do(c.scenario.request)
	var o outcome
	for range 4 {
		if !w.isDead() {
			break
		}
		o.died = true
		w.restart(t)
		if c.late {
			w.idle(t, 2*time.Hour, 6)
		}
		_, err = w.do(c.scenario.request)
	}
	w.idle(t, 2*time.Hour, 6)
	w.heal()
	if !w.idle(t, 3*time.Hour, 30) {
		w.settled(t)
		t.Fatalf("it does not come to rest: %+v", w.role.Snapshot().NextAction(w.now()))
	}
	o.calls, o.success = len(w.calls), err == nil
	c.answered(t, w, start, err)
	w.settled(t)
	c.afterwards(t, w)
	return o
}

// answered checks the version against what the caller was told.
func (c cell) answered(t testing.TB, w *world, start int, err error) {
	t.Helper()
	grown := w.role.Snapshot().Version - start
	want := 1
	if kind := c.scenario.request.Kind; kind == KindRetire || kind == KindRepair && w.place == "" {
		want = 0
	}
	switch {
	case w.sick && grown == 1 && !w.role.Snapshot().NeedsAttention:
		t.Fatalf("the application is left with what it does not get on with (%v)", err)
	case w.sick && grown != 1:
		want = 2 // one there and one back
	}
	want += w.forward // of a part, before or after the request was done
	if c.scenario.request.Kind == KindRepair && err == nil && len(w.adrift) > 0 {
		t.Fatalf("the repair succeeded, and the targets refuse %d values", len(w.adrift))
	}
	switch {
	case err == nil && grown != want:
		t.Fatalf("the request succeeded and the version grew by %d, want %d", grown, want)
	case grown < 0 || grown > want:
		t.Fatalf("the request failed (%v) and the version grew by %d", err, grown)
	}
}

// afterwards checks that life goes on: the next rotation works, and the overlap
// ends with nothing but the current values accepted.
func (c cell) afterwards(t testing.TB, w *world) {
	t.Helper()
	w.sick = false
	clear(w.late)
	before := w.role.Snapshot().Version
	next := Request{Kind: KindRotate, Trigger: TriggerManual, RequestID: "next", Reason: "another"}
	if len(w.role.Snapshot().Secrets) == 0 {
		next = c.scenario.request
		next.RequestID = "next"
	}
	rec, err := w.do(next)
	if err != nil || rec.Outcome != OutcomeCompleted || rec.Version != before+1 {
		t.Fatalf("the next operation: %+v, %v", rec, err)
	}
	w.settled(t)
	w.advance(25 * time.Hour)
	w.idle(t, 3*time.Hour, 10)
	w.settled(t)
	for name, secret := range w.role.Snapshot().Secrets {
		if secret.Previous != nil {
			t.Fatalf("%s has a previous value after its overlap", name)
		}
	}
}
