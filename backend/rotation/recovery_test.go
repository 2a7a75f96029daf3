package rotation

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// A request whose rotation failed, could not be undone and is then interrupted
// by a crash is delivered again: the recovery that goes forward is its answer.
func TestARepeatedRequestJoinsWhatItsFirstDeliveryLeftOpen(t *testing.T) {
	t.Parallel()
	w := made(t, "jwt")
	req := Request{Kind: KindRotate, Trigger: TriggerManual, RequestID: "request"}
	w.fail("jwt.test", 0, fault{how: once})
	w.fail("jwt.undo", 0, fault{how: once})
	w.fail("append", 0, fault{how: death})
	_, _ = w.do(req)
	if !w.isDead() {
		t.Fatalf("still alive after %v", w.calls)
	}
	w.boot(t)
	rec, err := w.do(req)
	if err != nil || rec.Version != 2 || rec.Outcome != OutcomeCompleted {
		t.Errorf("%+v, %v", rec, err)
	}
	if again, err := w.do(req); err != nil || again.Version != 2 {
		t.Errorf("a third delivery: %+v, %v", again, err)
	}
	w.settled(t)
}

// Only if every target accepts its new value is little more than the commit missing.
func TestRecoveryGoesBackUnlessEveryTargetAccepts(t *testing.T) {
	t.Parallel()
	for at, version := range map[string]int{"db.set": 2, "app.set": 2, "app.test": 3} {
		w := made(t, "app", "db")
		w.fail(at, 0, fault{how: death})
		_, _ = w.do(rotate())
		if !w.isDead() {
			t.Fatalf("still alive after %v", w.calls)
		}
		w.boot(t)
		_, _ = w.do(Request{Kind: KindRecover, Trigger: TriggerSchedule})
		if got := w.role.Snapshot(); got.Version != version || got.InFlight != nil {
			t.Errorf("died in %s: version %d: %q", at, got.Version, got.Latest().Issues)
		}
		w.settled(t)
	}
}

func TestAnInterruptedRetirementDoesNotStandInTheWay(t *testing.T) {
	t.Parallel()
	w := made(t, "db", "jwt")
	_, err := w.do(rotate())
	must(t, err)
	w.advance(25 * time.Hour)
	w.fail("db.retire", 0, fault{how: death})
	_, _ = w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule})
	w.boot(t)
	w.always["db.retire"] = fault{how: forever}
	rec, err := w.do(rotate())
	if err != nil || rec.Version != 4 {
		t.Errorf("an emergency rotation failed over a retirement: %+v, %v", rec, err)
	}
	w.heal()
	w.idle(t, time.Hour, 10)
	w.settled(t)
}

func TestPartOfARetirementIsRecordedThoughTheRestFailsAgain(t *testing.T) {
	t.Parallel()
	w := made(t, "db", "jwt")
	_, err := w.do(rotate())
	must(t, err)
	w.advance(25 * time.Hour)
	w.always["db.retire"], w.always["jwt.retire"] = fault{how: forever}, fault{how: forever}
	_, err = w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule})
	if err == nil || w.role.Snapshot().RetryAt.IsZero() || w.role.Snapshot().InFlight != nil {
		t.Fatalf("%v: %+v", err, w.role.Snapshot().State)
	}
	delete(w.always, "jwt.retire")
	w.advance(w.role.Snapshot().RetryAt.Sub(w.now()))
	if _, err = w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule}); err == nil {
		t.Fatal("no error")
	}
	if rec := w.role.Snapshot().Latest(); !strings.Contains(strings.Join(rec.Issues, "\n"), "jwt: version 2 is refused and destroyed") {
		t.Errorf("the end of a value is in no record: %+v", rec)
	}
	count := w.role.Snapshot().History.Count
	w.advance(w.role.Snapshot().RetryAt.Sub(w.now()))
	_, _ = w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule})
	if got := w.role.Snapshot().History.Count; got != count {
		t.Errorf("a repeated failure that achieved nothing added %d entries", got-count)
	}
	w.heal()
	w.idle(t, time.Hour, 10)
	w.settled(t)
}

// TestRecoveryWaitsForNoOtherPause has retirements fail for a while; then a person rotates,
// and the process dies right after it has set the password of a single user. Readers have
// a login that is refused, so the recovery does not wait for the pause of the retirement.
func TestRecoveryWaitsForNoOtherPause(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "db")
	_, err := w.do(rotate())
	must(t, err)
	w.always["db.retire"] = fault{how: forever}
	w.advance(24 * time.Hour)
	for range 16 {
		w.idle(t, time.Hour, 1)
	}
	w.fail("app.test", 0, fault{how: death})
	_, _ = w.do(rotate())
	w.boot(t)
	s := w.role.Snapshot()
	if s.InFlight == nil || w.users["app"] == s.Secrets["app"].Current.Material["password"] || s.RetryAt.Sub(w.now()) < 30*time.Minute {
		t.Fatalf("in flight %+v, retirements wait until %s", s.InFlight, s.RetryAt)
	}
	if at := s.NextAction(w.now()).At; at.After(w.now()) {
		t.Errorf("the recovery waits for %s, because %s", at.Sub(w.now()), s.LastError)
	}
	w.idle(t, 0, 1)
	if s := w.role.Snapshot(); w.users["app"] != s.Secrets["app"].Current.Material["password"] {
		t.Errorf("readers have a login that is refused, after %v", w.calls)
	}
}

// TestRecoveryAfterStorageIsBack has storage take no write, as on a full disk, from when
// the password of a single user is set. The engine tries storage again and again, but not
// the password: the server may count the logins that it refuses.
func TestRecoveryAfterStorageIsBack(t *testing.T) {
	t.Parallel()
	w := made(t, "app")
	w.hooks = map[string]func(){"app.test": func() { w.always["save"] = fault{how: forever} }}
	_, err := w.do(rotate())
	if err == nil || !strings.Contains(err.Error(), "as soon as storage answers") {
		t.Fatal(err)
	}
	w.hooks, w.calls = nil, nil
	for end := w.now().Add(30 * time.Minute); w.now().Before(end); {
		w.idle(t, time.Hour, 1)
	}
	if tried := len(w.calls); tried < 60 || tried > 180 || slices.Contains(w.calls, "app.test") {
		t.Errorf("half an hour without storage, and these calls: %v", w.calls)
	}
	w.heal()
	if wait := w.role.Snapshot().NextAction(w.now()).At.Sub(w.now()); wait > maxResolvePause {
		t.Errorf("storage answers, readers have a login that is refused, and the engine waits for %s more", wait)
	}
	w.idle(t, maxResolvePause, 1)
	if s := w.role.Snapshot(); s.Version != 2 || w.users["app"] != s.Secrets["app"].Current.Material["password"] {
		t.Errorf("version %d: readers have a login that is refused", s.Version)
	}
}

// TestRecoveryDoesNotSpin has storage take every write but the commit.
func TestRecoveryDoesNotSpin(t *testing.T) {
	t.Parallel()
	w := made(t, "app")
	w.hooks = map[string]func(){
		"app.set":  func() { delete(w.always, "save") },
		"app.test": func() { w.always["save"] = fault{how: forever} },
	}
	_, _ = w.do(rotate())
	for range 5 {
		delete(w.always, "save")
		w.idle(t, time.Hour, 1)
	}
	s := w.role.Snapshot()
	if wait := s.NextAction(w.now()).At.Sub(w.now()); !s.open() || wait < time.Second || wait > maxResolvePause {
		t.Errorf("a recovery that failed is tried again after %s: in flight %+v", wait, s.InFlight)
	}
}

// TestDoubtWaitsForNoOtherPause has a role whose failures storage did not note for long, and
// then a write of a person that storage takes and does not answer.
func TestDoubtWaitsForNoOtherPause(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	w.role.amend(func(s *Snapshot) { s.NotBefore = w.now().Add(time.Hour) })
	w.fail("save", 0, fault{landed: true, how: once})
	if err := w.role.change(t.Context(), nil, func(s *State) error { s.Policy.Overlap = time.Hour; return nil }); err == nil {
		t.Fatal("it was answered")
	}
	if a := w.role.Snapshot().NextAction(w.now()); a.Kind != KindRecover || a.At.After(w.now()) {
		t.Errorf("%s in %s", a.Kind, a.At.Sub(w.now()))
	}
}

// elsewhere lets another node recover the role before the state is loaded.
func (w *world) elsewhere(t *testing.T, prepare func(other *world)) {
	t.Helper()
	w.hooks = map[string]func(){"load": func() {
		other := w.clone()
		other.made += 1000
		prepare(other)
		other.boot(t)
		_, _ = other.do(Request{Kind: KindRecover, Trigger: TriggerSchedule})
		other.stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.state, w.stored, w.entries = other.state, other.stored, other.entries
	}}
}

func TestACommitIsNotMadeOverWhatAnotherNodeDecided(t *testing.T) {
	t.Parallel()
	w := made(t, "jwt")
	w.fail("save", 1, fault{how: once}) // the commit, after which the state is loaded again
	w.elsewhere(t, func(other *world) { other.fail("jwt.test", 0, fault{how: refused}) })
	_, err := w.do(rotate())
	var f *Failure
	if !errors.As(err, &f) || f.Now != nowTakenOver || w.role.Snapshot().Version != 1 {
		t.Errorf("version %d: %v", w.role.Snapshot().Version, err)
	}
	w.hooks = nil
	w.settled(t)
}

func TestACommitThatAnotherNodeHasMadeIsASuccess(t *testing.T) {
	t.Parallel()
	w := made(t, "jwt")
	w.fail("save", 1, fault{how: once})
	w.elsewhere(t, func(*world) {})
	if _, err := w.do(rotate()); err != nil || w.role.Snapshot().Version != 2 {
		t.Errorf("version %d: %v", w.role.Snapshot().Version, err)
	}
	w.hooks = nil
	w.settled(t)
}

// A fence in doubt makes the node look, and what it sees is that the operation is
// not its own any more.
func TestNothingIsUndoneOverWhatAnotherNodeDecided(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	w.fail("save", 1, fault{how: once}) // the fence of the change, after which the state is loaded again
	w.elsewhere(t, func(*world) {})
	if _, err := w.do(rotate()); !errors.Is(err, errSuperseded) || slices.Contains(w.calls, "db.undo") {
		t.Errorf("%v after %v", err, w.calls)
	}
	w.hooks = nil
}

func TestUnappendedHistoryIsKeptThroughAnyNumberOfFailures(t *testing.T) {
	t.Parallel()
	w := made(t, "jwt")
	w.always["append"], w.always["jwt.create"] = fault{how: forever}, fault{how: forever}
	for range 3 {
		if _, err := w.do(rotate()); !errors.Is(err, errFault) {
			t.Fatal(err)
		}
	}
	if n := w.role.Snapshot().History.Count; n != 4 || len(w.entries) != 1 {
		t.Errorf("%d entries, %d of them in storage", n, len(w.entries))
	}
	w.settled(t)
	w.boot(t)
	w.settled(t)
	w.heal()
	_, err := w.do(rotate())
	must(t, err)
	if len(w.entries) != 5 || len(w.role.Snapshot().Outbox) > 3 {
		t.Errorf("%d entries in storage, %d still travel", len(w.entries), len(w.role.Snapshot().Outbox))
	}
	w.settled(t)
}
