package rotation

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// interrupted dies before the commit of a rotation, when every target accepts its
// new value; the next process cannot ask db.
func interrupted(t *testing.T, secrets ...string) *world {
	t.Helper()
	w := made(t, secrets...)
	fences := 0
	for _, name := range secrets {
		if typeOf[name] != "jwt" {
			fences++
		}
	}
	w.fail("save", 1+fences, fault{how: death}) // after the intent and the fences
	_, _ = w.do(rotate())
	w.boot(t)
	w.always["db.test"] = fault{how: forever}
	return w
}

// left is a role one of whose targets took a new value, and then neither said so nor
// could be put back.
func left(t *testing.T, name string, secrets ...string) *world {
	t.Helper()
	w := made(t, secrets...)
	w.fail(name+".set", 0, fault{landed: true, how: once})
	w.always[name+".undo"] = fault{how: forever}
	_, err := w.do(rotate())
	var f *Failure
	if !errors.As(err, &f) || f.Record.Outcome != OutcomeFailed || !strings.Contains(err.Error(), "It is not known") {
		t.Fatalf("%v", err)
	}
	return w
}

// TestUnresolvedHoldsUpNobody expects of a role with one secret whose target can
// neither go forward nor back that everything else is as always.
func TestUnresolvedHoldsUpNobody(t *testing.T) {
	t.Parallel()
	w := left(t, "app", "app", "db", "jwt")
	s := w.role.Snapshot()
	if s.InFlight != nil || s.Secrets["app"].Unresolved == nil || w.users["app_b"] != "" {
		t.Fatalf("in flight %+v, app %+v, the idle user has %q", s.InFlight, s.Secrets["app"].Unresolved, w.users["app_b"])
	}
	if ttl := s.TTL(w.now()); ttl != time.Minute {
		t.Errorf("readers are told to come back after %s", ttl)
	}
	if names := s.Latest().LeftUnresolved(); !slices.Equal(names, s.Unresolved()) {
		t.Errorf("the record says that %v are unresolved", names)
	}
	others := Request{Kind: KindRotate, Trigger: TriggerManual, Secrets: []string{"db", "jwt"}}
	_, err := w.do(others)
	must(t, err)
	_, err = w.do(Request{Kind: KindRollback, Trigger: TriggerManual, Secrets: []string{"jwt"}})
	must(t, err)
	others.RevokePrevious = true
	_, err = w.do(others)
	must(t, err)
	if got := w.role.Snapshot().Secrets["db"].Previous; got != nil {
		t.Errorf("revoked, and kept: version %d", got.Version)
	}
	if _, err = w.do(rotate()); err == nil || !strings.Contains(err.Error(), "secrets=db,jwt") || !strings.Contains(err.Error(), nowUnchanged) {
		t.Errorf("a rotation of all: %v", err)
	}
	if names := w.role.Snapshot().Latest().LeftUnresolved(); names != nil {
		t.Errorf("a rotation that changed nothing left %v unresolved", names)
	}
	version := w.role.Snapshot().Version
	w.heal()
	if !w.idle(t, time.Minute, 10) || w.role.Snapshot().Version != version {
		t.Errorf("not put back in a minute: %+v", w.role.Snapshot().Secrets["app"])
	}
	rec := w.role.Snapshot().Latest()
	if rec.Outcome != OutcomeRolledBack || rec.Trigger != TriggerRecovery || !slices.Equal(rec.Secrets, []string{"app"}) {
		t.Errorf("its end is recorded as %+v", rec)
	}
	w.settled(t)
}

// TestUnresolvedIsTriedAgainSoon bounds the pause between two attempts, however many
// there were, and that readers wait for when the cause is gone.
func TestUnresolvedIsTriedAgainSoon(t *testing.T) {
	t.Parallel()
	const soon = 30 * time.Second // as nowUnresolved says
	w := left(t, "app", "app", "jwt")
	entries := w.role.Snapshot().History.Count
	for range 50 {
		at := w.role.Snapshot().NextAction(w.now())
		if pause := at.At.Sub(w.now()); at.Kind != KindRecover || pause <= 0 || pause > soon {
			t.Fatalf("next is %s in %s", at.Kind, at.At.Sub(w.now()))
		}
		w.advance(at.At.Sub(w.now()))
		_, _ = w.do(Request{Kind: KindRecover, Trigger: TriggerSchedule})
	}
	if got := w.role.Snapshot(); got.History.Count != entries || got.Secrets["app"].Unresolved.Attempts != 50 {
		t.Errorf("%d entries were added, %d attempts counted", got.History.Count-entries, got.Secrets["app"].Unresolved.Attempts)
	}
}

// TestUnresolvedIsNotAskedForEver counts the logins that a target refuses while it will
// not be put back: whoever watches these would lock the user out.
func TestUnresolvedIsNotAskedForEver(t *testing.T) {
	t.Parallel()
	w := left(t, "app", "app", "jwt")
	w.always["app.undo"], w.always["app.set"] = fault{how: refusals}, fault{how: refusals}
	w.users["app"] = strayed
	w.calls = nil
	for w.now().Before(w.role.Snapshot().Secrets["app"].Unresolved.Since.Add(2 * time.Hour)) {
		w.advance(w.role.Snapshot().NextAction(w.now()).At.Sub(w.now()))
		_, _ = w.do(Request{Kind: KindRecover, Trigger: TriggerSchedule})
	}
	asked := 0
	for _, call := range w.calls {
		if call == "app.probe" || call == "app.test" {
			asked++
		}
	}
	if asked > 16 {
		t.Errorf("within two hours it was asked for its values %d times", asked)
	}
}

// TestUnresolvedGoesForward leaves readers without a value that works only until the
// target accepts another one that is known.
func TestUnresolvedGoesForward(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "jwt")
	w.fail("app.set", 0, fault{landed: true, how: once})
	w.always["app.undo"] = fault{how: refusals}
	_, err := w.do(rotate())
	if err == nil || w.role.Snapshot().Secrets["app"].Unresolved == nil {
		t.Fatalf("%v", err)
	}
	w.idle(t, time.Minute, 3)
	s := w.role.Snapshot()
	if s.Version != 3 || s.currentVersion("app") != 3 || s.currentVersion("jwt") == 3 || w.users["app"] != s.Secrets["app"].Current.Material["password"] {
		t.Errorf("version %d, app %d, jwt %d", s.Version, s.currentVersion("app"), s.currentVersion("jwt"))
	}
	w.heal()
	w.settled(t)
}

// TestRefusedChangeIsNotUnknown refuses a change: nothing is put back, nothing asked,
// and readers are told nothing else than before.
func TestRefusedChangeIsNotUnknown(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"app", "db"} {
		w := made(t, "app", "db", "jwt")
		w.always[name+".set"], w.always[name+".undo"] = fault{how: refusals}, fault{how: refusals}
		_, err := w.do(rotate())
		s := w.role.Snapshot()
		if err == nil || s.InFlight != nil || s.Secrets[name].Unresolved != nil || s.TTL(w.now()) != time.Minute {
			t.Errorf("%s: %v: in flight %+v, unresolved %+v", name, err, s.InFlight, s.Secrets[name].Unresolved)
		}
		if slices.Contains(w.calls, name+".undo") || slices.Contains(w.calls, name+".probe") {
			t.Errorf("%s was put back or asked: %v", name, w.calls)
		}
		w.heal()
		w.settled(t)
	}
}

// TestInterruptedWithoutAnAnswer interrupts a rotation whose targets all have their new
// values, and lets one be silent then: what can be put back is, and that one alone waits.
func TestInterruptedWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	w := interrupted(t, "app", "db")
	w.always["db.undo"], w.always["db.probe"] = fault{how: forever}, fault{how: forever}
	_, err := w.do(Request{Kind: KindRecover, Trigger: TriggerSchedule})
	s := w.role.Snapshot()
	if s.InFlight != nil || w.users["app"] != s.Secrets["app"].Current.Material["password"] || s.Secrets["db"].Unresolved == nil {
		t.Errorf("%v: in flight %+v, db %+v", err, s.InFlight, s.Secrets["db"].Unresolved)
	}
	w.heal()
	if !w.idle(t, time.Minute, 10) || w.role.Snapshot().Secrets["db"].Unresolved != nil {
		t.Error("it is not resolved when the target answers again")
	}
	w.settled(t)
}

// TestCreationWithoutAnAnswer keeps the first value of a secret until its target says
// whether it has it: nobody else knows it.
func TestCreationWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for how, want := range map[bool]int{true: 2, false: 1} {
		w := made(t, "jwt")
		w.fail("app.set", 0, fault{landed: how, how: death})
		create := Request{Kind: KindCreate, Trigger: TriggerManual, Added: &Secret{Name: "app", Type: "single", Config: []byte(`{}`)}}
		_, _ = w.do(create)
		w.boot(t)
		for _, call := range []string{"app.test", "app.set", "app.undo", "app.probe"} {
			w.always[call] = fault{how: forever}
		}
		_, _ = w.do(Request{Kind: KindRecover, Trigger: TriggerSchedule})
		if secret := w.role.Snapshot().Secrets["app"]; secret == nil || secret.Unresolved == nil {
			t.Fatalf("what the target may hold is forgotten")
		}
		w.heal()
		w.idle(t, time.Minute, 10)
		if s := w.role.Snapshot(); s.Version != want || (s.Secrets["app"] != nil) != how {
			t.Errorf("landed %t: version %d, %+v", how, s.Version, s.Secrets["app"])
		}
		w.settled(t)
	}
}

// TestPartOfAnAutomaticRollback has an automatic rollback leave one secret unresolved, which
// goes forward by itself: the others are rolled back too, for the task that failed.
func TestPartOfAnAutomaticRollback(t *testing.T) {
	w := newWorld()
	copied(true, prepare("db", "app"))(t, w)
	defer func() { w.stop() }()
	before := w.role.Snapshot()
	w.fail("app.test", 1, fault{how: once}) // of the rollback
	w.always["app.undo"] = fault{how: refusals}
	rec, err := w.do(rotate())
	must(t, err)
	w.idle(t, time.Hour, 12)
	w.heal()
	if !w.idle(t, time.Hour, 30) {
		t.Fatal("it does not come to rest")
	}
	s := w.role.Snapshot()
	for name, secret := range s.Secrets {
		if !secret.Current.Material.Equal(before.Secrets[name].Current.Material) {
			t.Errorf("%s has not the value of before %s", name, rec.ID)
		}
	}
	if s.Version != rec.Version+2 || s.NeedsAttention || s.PostCommit != nil || len(s.Unresolved()) > 0 {
		t.Errorf("version %d after %d, attention %t, %+v, unresolved %v", s.Version, rec.Version, s.NeedsAttention, s.PostCommit, s.Unresolved())
	}
	w.settled(t)
}
