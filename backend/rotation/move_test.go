package rotation

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func move(secrets ...string) Request {
	return Request{Kind: KindMove, Trigger: TriggerConnection, Secrets: secrets}
}

// TestAMoveKeepsTheValues gives readers another place for the same password, as a new
// version, after it was proven there.
func TestAMoveKeepsTheValues(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "jwt")
	before := w.role.Snapshot()
	if misplaced := w.engine.Misplaced(before.State); len(misplaced) != 0 {
		t.Errorf("before anything has moved, misplaced are %v", misplaced)
	}
	w.advance(time.Minute)
	w.place = "elsewhere"
	if misplaced := w.engine.Misplaced(before.State); !slices.Equal(misplaced, []string{"app"}) {
		t.Errorf("misplaced are %v", misplaced)
	}
	rec, err := w.do(move("app"))
	must(t, err)
	if want := []string{"app.probe", "save", "append"}; !slices.Equal(w.calls, want) {
		t.Errorf("side effects:\n%v, want\n%v", w.calls, want)
	}
	after := w.role.Snapshot()
	was, is := before.Secrets["app"].Current, after.Secrets["app"].Current
	if is.Material["password"] != was.Material["password"] || is.Material["place"] != "elsewhere" {
		t.Error("it is another password, or is used at the same place")
	}
	if after.Version != before.Version+1 || is.Version != after.Version || !after.LastRotation.After(before.LastRotation) {
		t.Errorf("version %d of %s became %d of %s", before.Version, before.LastRotation, after.Version, after.LastRotation)
	}
	if !after.NextRotation.Equal(before.NextRotation) || after.Secrets["jwt"].Current != before.Secrets["jwt"].Current || after.Secrets["app"].Previous != before.Secrets["app"].Previous {
		t.Error("more has changed than the place")
	}
	if r := rec.Results[0]; rec.Kind != KindMove || r.From != was.Version || r.To != is.Version {
		t.Errorf("the record is %+v", rec)
	}
	if misplaced := w.engine.Misplaced(after.State); len(misplaced) != 0 {
		t.Errorf("after the move, misplaced are %v", misplaced)
	}
	w.settled(t)
}

// TestNothingMovesUnproven leaves readers what works where they are told to use it.
func TestNothingMovesUnproven(t *testing.T) {
	t.Parallel()
	w := made(t, "app")
	before := w.role.Snapshot()
	w.place = "elsewhere"
	w.users["app"] = strayed
	w.adrift[identity(before.Secrets["app"].Current.Material)] = true
	if _, err := w.do(move("app")); !errors.Is(err, ErrRefused) {
		t.Errorf("a move of what is refused: %v", err)
	}
	if after := w.role.Snapshot(); after.Version != before.Version || after.Secrets["app"].Current != before.Secrets["app"].Current || after.Failures != 0 {
		t.Errorf("it is at version %d, with %d failures", after.Version, after.Failures)
	}
	w.settled(t)
}

// TestWhatFollowsAMoveIsPlaced has every other operation commit where it proved: a
// rotation, a rollback to a value of before the move, a repair.
func TestWhatFollowsAMoveIsPlaced(t *testing.T) {
	t.Parallel()
	for _, request := range []Request{rotate(), {Kind: KindRollback, Trigger: TriggerManual}, repair()} {
		w := lost(t)
		before := w.role.Snapshot()
		w.place = "elsewhere"
		_, err := w.do(request)
		must(t, err)
		after := w.role.Snapshot()
		if now := after.Secrets["app"].Current; now.Material["place"] != "elsewhere" || now.Version != after.Version || after.Version == before.Version {
			t.Errorf("after a %s of version %d, version %d is used at %q", request.Kind, before.Version, now.Version, now.Material["place"])
		}
		w.settled(t)
	}
}

// TestMovedWhileItIsProven refuses to hand out a value that was proven neither here
// nor there.
func TestMovedWhileItIsProven(t *testing.T) {
	t.Parallel()
	w := made(t, "app")
	before := w.role.Snapshot().Secrets["app"].Current
	w.hooks = map[string]func(){"app.test": func() { w.place = "elsewhere" }}
	_, err := w.do(rotate())
	if err == nil || !strings.Contains(err.Error(), "changed how the target is reached meanwhile") {
		t.Errorf("the rotation: %v", err)
	}
	if now := w.role.Snapshot().Secrets["app"].Current; now != before || w.users["app"] != before.Material["password"] {
		t.Error("the value before is not in use any more")
	}
	w.settled(t)
}
