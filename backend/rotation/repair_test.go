package rotation

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func repair(secrets ...string) Request {
	return Request{Kind: KindRepair, Trigger: TriggerManual, Secrets: secrets, Reason: "restored"}
}

// lost is a role whose targets went on without its storage, and its world.
func lost(t *testing.T) *world {
	t.Helper()
	w := newWorld()
	astray(rotated(0, "app", "db", "jwt"))(t, w)
	w.calls = nil
	t.Cleanup(func() { w.stop() })
	return w
}

func TestTheStepsOfARepair(t *testing.T) {
	t.Parallel()
	w := lost(t)
	before := w.role.Snapshot()
	rec, err := w.do(repair())
	must(t, err)
	want := []string{
		"save", "app.probe", "save", "app.set", "app.probe",
		"db.probe", "save", "db.set", "db.probe", "db.probe", "save", "db.set", "db.probe",
		"jwt.probe", "jwt.probe", "save", "append",
	}
	if !slices.Equal(w.calls, want) {
		t.Errorf("side effects:\n%v, want\n%v", w.calls, want)
	}
	after := w.role.Snapshot()
	for name, secret := range before.Secrets {
		if now := after.Secrets[name]; now.Current != secret.Current || now.Previous != secret.Previous {
			t.Errorf("the values of %s are other ones", name)
		}
	}
	if after.Version != before.Version || !after.LastRotation.Equal(before.LastRotation) || !after.NextRotation.Equal(before.NextRotation) {
		t.Errorf("version %d became %d", before.Version, after.Version)
	}
	found := strings.Join(rec.Issues, "\n")
	for _, words := range []string{"secret app: the target refused the current value, version 4; the engine set it again", "secret db: the target refused the previous value, version 2"} {
		if !strings.Contains(found, words) {
			t.Errorf("the record does not say %q: %s", words, found)
		}
	}
	w.settled(t)
}

func TestARepairOfWhatWorksSetsNothing(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "db")
	rec, err := w.do(repair())
	must(t, err)
	if slices.Contains(w.calls, "app.set") || slices.Contains(w.calls, "db.set") || !strings.Contains(strings.Join(rec.Issues, ""), "nothing was set") {
		t.Errorf("%v after %v", rec.Issues, w.calls)
	}
}

func TestARepairMendsWhatItCan(t *testing.T) {
	t.Parallel()
	w := lost(t)
	w.always["app.set"] = fault{how: forever}
	_, err := w.do(repair())
	var f *Failure
	if !errors.As(err, &f) || f.Now != nowRefused || f.Record.Outcome != OutcomeFailed || !errors.Is(err, errFault) {
		t.Fatalf("%v", err)
	}
	s := w.role.Snapshot()
	if s.InFlight != nil || s.Failures != 0 || !strings.Contains(s.LastError, "secret app: set") {
		t.Errorf("afterwards: %+v", s.State)
	}
	for name, want := range map[string]int{"app": 1, "db": 0, "jwt": 0} {
		refused, err := w.engine.Refused(t.Context(), *s.Secrets[name])
		if err != nil || len(refused) != want {
			t.Errorf("of %s is refused: %v, %v", name, refused, err)
		}
	}
	w.heal()
	_, err = w.do(repair("app"))
	must(t, err)
	if s := w.role.Snapshot(); s.LastError != "" || len(w.adrift) > 0 {
		t.Errorf("the last error stays %q, and astray are %v", s.LastError, w.adrift)
	}
	w.settled(t)
}

func TestARefusalIsNotWhatCannotBeAsked(t *testing.T) {
	t.Parallel()
	w := lost(t)
	w.always["db.probe"] = fault{how: forever}
	if refused, err := w.engine.Refused(t.Context(), *w.role.Snapshot().Secrets["db"]); !errors.Is(err, errFault) || len(refused) > 0 {
		t.Errorf("%v, %v", refused, err)
	}
	if _, err := w.do(repair("db")); !errors.Is(err, errFault) || slices.Contains(w.calls, "db.set") {
		t.Errorf("%v after %v", err, w.calls)
	}
}

// A crash in a repair leaves it to the next process, which ends it whatever comes
// of it: it must not stand in the way of a rotation.
func TestAnInterruptedRepairDoesNotStandInTheWay(t *testing.T) {
	t.Parallel()
	w := lost(t)
	w.fail("app.set", 0, fault{how: death})
	_, _ = w.do(repair())
	w.boot(t)
	if s := w.role.Snapshot(); s.InFlight == nil || s.InFlight.Kind != KindRepair {
		t.Fatalf("in flight: %+v", s.InFlight)
	}
	w.fail("app.set", 0, fault{how: once})
	rec, err := w.do(rotate())
	if err != nil || rec.Version != 5 {
		t.Errorf("%+v, %v", rec, err)
	}
	w.settled(t)
}
