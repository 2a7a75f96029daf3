package rotation

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestConnectionWriteForgetsNoPassword has a write to a connection be made from the state
// before a rotation of its administrator's password, which has ended unresolved since: the
// server has a password that only the state knows. It is kept, also if the write supplies
// one that the server accepted before.
func TestConnectionWriteForgetsNoPassword(t *testing.T) {
	t.Parallel()
	for _, supplies := range []bool{false, true} {
		w := made(t, "app") // one user, as an administrator is
		before := w.role.Snapshot()
		w.fail("app.set", 0, fault{landed: true, how: once})
		w.always["app.undo"] = fault{how: forever}
		_, _ = w.do(rotate())
		if s := w.role.Snapshot(); s.Secrets["app"].Unresolved == nil || s.Version != before.Version {
			t.Fatalf("version %d, unresolved %+v", s.Version, s.Secrets["app"].Unresolved)
		}
		w.writesAdministrator(t, before, supplies)
	}
}

// TestConnectionWriteAfterAnEndInDoubt is the same, but the end of the rotation was stored,
// and storage answered with an error, so that the write finds it in flight.
func TestConnectionWriteAfterAnEndInDoubt(t *testing.T) {
	t.Parallel()
	w := made(t, "app")
	w.fail("app.set", 0, fault{landed: true, how: once})
	w.always["app.undo"] = fault{how: forever}
	w.fail("save", 3, fault{landed: true, how: once}) // after the intent and the two fences
	_, err := w.do(rotate())
	s := w.role.Snapshot()
	if !s.Unsure || s.InFlight == nil || w.stored.Secrets["app"].Unresolved == nil {
		t.Fatalf("unsure %t, in flight %+v, stored %+v: %v: %v", s.Unsure, s.InFlight, w.stored.Secrets["app"], err, w.calls)
	}
	w.writesAdministrator(t, s, false)
}

// writesAdministrator writes a connection that was made from a state, which has to be
// refused, and checks that the engine finds its way to the password that the server has.
func (w *world) writesAdministrator(t *testing.T, from *Snapshot, supplies bool) {
	t.Helper()
	draft := *from.Secrets["app"]
	draft.Pending = nil
	if supplies {
		draft.Pending = &Value{Material: draft.Current.Material}
	}
	rec := &Record{Operation: w.engine.NewOperation(KindImport, TriggerManual), Outcome: OutcomeCompleted, Results: []SecretResult{{Secret: "app"}}}
	err := w.role.ReplaceAdministrator(t.Context(), rec, from.State, draft, from.Policy)
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "was changed meanwhile; try again") {
		t.Errorf("with a password %t: %v", supplies, err)
	}
	w.heal()
	w.idle(t, 2*time.Hour, 20)
	if s := w.role.Snapshot(); w.users["app"] != s.Secrets["app"].Current.Material["password"] {
		t.Errorf("with a password %t: the server has another one", supplies)
	}
}
