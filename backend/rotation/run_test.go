package rotation

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// made is a role with these secrets, out of overlap, and its world.
func made(t *testing.T, secrets ...string) *world {
	t.Helper()
	w := newWorld()
	prepare(secrets...)(t, w)
	w.calls = nil
	t.Cleanup(func() { w.stop() })
	return w
}

func rotate(secrets ...string) Request {
	return Request{Kind: KindRotate, Trigger: TriggerManual, Secrets: secrets, Reason: "test"}
}

// holdAt makes the next call of that name wait. The run has got there when
// reached is closed, and goes on when release is called.
func (w *world) holdAt(name string) (reached <-chan struct{}, release func()) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	var once bool
	w.hooks = map[string]func(){name: func() {
		if !once {
			once = true
			close(arrived)
			<-goOn
		}
	}}
	return arrived, func() { close(goOn) }
}

// arrive waits until a run has got to where it is held.
func arrive(t *testing.T, reached <-chan struct{}, run *Run) {
	t.Helper()
	select {
	case <-reached:
	case <-run.Done():
		_, err := run.Result()
		t.Fatalf("the run ended without getting there: %v", err)
	}
}

func TestTheStepsOfARotation(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "db", "jwt")
	rec, err := w.do(rotate())
	must(t, err)
	want := []string{
		"app.create", "db.create", "jwt.create", "save",
		"save", "db.set", "db.test", "jwt.set", "jwt.test", "save", "app.set", "app.test", "save", "append",
	}
	if !slices.Equal(w.calls, want) {
		t.Errorf("side effects:\n%v, want\n%v", w.calls, want)
	}
	if rec.Version != 4 || rec.Outcome != OutcomeCompleted || rec.Reason != "test" || rec.Role != "default" || len(rec.Results) != 3 {
		t.Errorf("record: %+v", rec)
	}
	for i, r := range rec.Results {
		if r.From != i+1 || r.To != 4 || len(r.Steps) != 3 || r.Type != typeOf[r.Secret] {
			t.Errorf("result: %+v", r)
		}
	}
	if next := w.role.Snapshot().NextRotation; !rec.NextRotation.Equal(next) || next.Sub(w.now()) < 89*24*time.Hour {
		t.Errorf("next rotation %v, in the state %v", rec.NextRotation, next)
	}
	w.settled(t)
}

func TestRotatingAPartLeavesTheScheduleAlone(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "db")
	before := *w.role.Snapshot()
	w.advance(48 * time.Hour)
	_, err := w.do(rotate("db"))
	must(t, err)
	after := w.role.Snapshot()
	if !after.Anchor.Equal(before.Anchor) || !after.NextRotation.Equal(before.NextRotation) {
		t.Errorf("the next rotation moved from %v to %v", before.NextRotation, after.NextRotation)
	}
	if after.Secrets["app"].Current.Version != 1 || after.Secrets["db"].Current.Version != 3 {
		t.Errorf("versions: %d, %d", after.Secrets["app"].Current.Version, after.Secrets["db"].Current.Version)
	}
}

func TestRollingBackLeavesTheScheduleAlone(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "db")
	_, err := w.do(rotate())
	must(t, err)
	before := *w.role.Snapshot()
	w.advance(time.Hour)
	_, err = w.do(Request{Kind: KindRollback, Trigger: TriggerManual})
	must(t, err)
	if after := w.role.Snapshot(); !after.Anchor.Equal(before.Anchor) || !after.NextRotation.Equal(before.NextRotation) {
		t.Errorf("the next rotation moved from %v to %v", before.NextRotation, after.NextRotation)
	}
}

func TestAnOverlapDoesNotEndWithThatOfAnotherSecret(t *testing.T) {
	t.Parallel()
	w := made(t, "db", "jwt")
	for _, name := range []string{"db", "jwt"} {
		_, err := w.do(rotate(name))
		must(t, err)
		w.advance(12 * time.Hour)
	}
	_, err := w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule})
	must(t, err)
	s := w.role.Snapshot().Secrets
	if s["db"].Previous != nil || s["jwt"].PreviousAt(w.now()) == nil {
		t.Errorf("after the overlap of db only, %v and %v are kept", s["db"].Previous, s["jwt"].Previous)
	}
	w.settled(t)
}

func TestRevokingOneSecretLeavesTheOverlapOfAnother(t *testing.T) {
	t.Parallel()
	w := made(t, "db", "jwt")
	_, err := w.do(rotate("jwt"))
	must(t, err)
	w.advance(time.Hour)
	revoking := rotate("db")
	revoking.RevokePrevious = true
	_, err = w.do(revoking)
	must(t, err)
	s := w.role.Snapshot().Secrets
	if s["db"].Previous != nil || s["jwt"].PreviousAt(w.now()) == nil {
		t.Errorf("after db was rotated and revoked, %v and %v are kept", s["db"].Previous, s["jwt"].Previous)
	}
	w.settled(t)
}

func TestTheScheduleCountsFromTheFirstValue(t *testing.T) {
	t.Parallel()
	w := made(t)
	must(t, w.role.change(t.Context(), nil, func(s *State) error { s.Anchor = w.clock; return nil }))
	w.advance(80 * 24 * time.Hour)
	_, err := w.do(Request{Kind: KindCreate, Trigger: TriggerManual, Added: &Secret{Name: "jwt", Type: "jwt"}})
	must(t, err)
	if in := w.role.Snapshot().NextRotation.Sub(w.now()); in < 89*24*time.Hour {
		t.Errorf("a value made now is to be rotated in %v", in)
	}
}

func TestASecondOperationIsRefusedWhileOneIsUnderWay(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	reached, release := w.holdAt("db.set")
	run, err := w.role.Start(t.Context(), Request{Kind: KindRotate, Trigger: TriggerManual, RequestID: "first"})
	must(t, err)
	arrive(t, reached, run)
	if p := run.Progress(); p == nil || p.Secret != "db" || p.Step != "set" || w.role.Running() != run || !w.role.Busy() {
		t.Errorf("progress %+v, running %v", p, w.role.Running())
	}
	for _, kind := range []Kind{KindRotate, KindRollback, KindRetire, KindRecover} {
		_, err := w.role.Start(t.Context(), Request{Kind: kind, RequestID: "second"})
		if !errors.Is(err, ErrInFlight) || !strings.Contains(err.Error(), run.Operation().ID) {
			t.Errorf("%s beside a rotation: %v", kind, err)
		}
	}
	err = w.role.change(t.Context(), &Record{Operation: w.engine.NewOperation(KindDelete, TriggerManual)}, nil)
	if !errors.Is(err, ErrInFlight) {
		t.Errorf("a recorded change beside a rotation: %v", err)
	}
	must(t, w.role.change(t.Context(), nil, func(s *State) error { s.Policy.MaxRetries = 3; return nil }))
	joined, err := w.role.Start(t.Context(), Request{Kind: KindRotate, RequestID: "first"})
	if err != nil || joined != run {
		t.Errorf("the same request did not join: %v", err)
	}
	release()
	<-run.Done()
	_, err = run.Result()
	must(t, err)
	if s := w.role.Snapshot(); s.Policy.MaxRetries != 3 || s.Version != 2 || w.role.Busy() {
		t.Errorf("after both: %+v", s.Policy)
	}
}

func TestARotationWaitsForTheEnginesOwnRetirement(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	_, err := w.do(rotate())
	must(t, err)
	w.advance(25 * time.Hour)
	reached, release := w.holdAt("db.retire")
	retiring, err := w.role.Start(t.Context(), Request{Kind: KindRetire, Trigger: TriggerSchedule})
	must(t, err)
	arrive(t, reached, retiring)
	ended, stop := context.WithCancel(t.Context())
	stop()
	if _, err := w.role.Start(ended, rotate()); !errors.Is(err, ErrInFlight) {
		t.Errorf("a caller that does not wait got %v", err)
	}
	rotated := make(chan error)
	go func() {
		_, err := w.do(rotate())
		rotated <- err
	}()
	release()
	must(t, <-rotated)
	<-retiring.Done()
	if v := w.role.Snapshot().Version; v != 3 {
		t.Errorf("version %d, want 3", v)
	}
	w.settled(t)
}

func TestWrongRequestsChangeNothing(t *testing.T) {
	t.Parallel()
	w := made(t, "db", "jwt")
	for text, req := range map[string]Request{
		`no secret "nope"; it has: db, jwt`: rotate("db", "nope"),
		`"db" is named twice`:               rotate("db", "db"),
		"has a previous value to go back":   {Kind: KindRollback},
		"exists already":                    {Kind: KindCreate, Added: &Secret{Name: "db", Type: "alternating"}},
	} {
		if _, err := w.do(req); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", req, err, text)
		}
	}
	_, err := w.do(rotate("db"))
	must(t, err)
	if _, err := w.do(Request{Kind: KindRollback, Secrets: []string{"jwt"}}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "these have: db") {
		t.Errorf("rolling back what was not rotated: %v", err)
	}
	empty := made(t)
	if _, err := empty.do(rotate()); !errors.Is(err, ErrInvalid) || len(empty.calls) > 0 {
		t.Errorf("rotating nothing: %v after %v", err, empty.calls)
	}
}
