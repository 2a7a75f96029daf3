package rotation

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// around models the surroundings: a copy that takes two steps and a check that
// fails when the world is sick.
type around world

func (a *around) Plan(_ context.Context, _ *Role, op Operation) ([]Task, error) {
	w := (*world)(a)
	if op.Kind == KindRetire {
		return w.refusals(op.Secrets), nil
	}
	if len(w.tasks) == 0 {
		return nil, nil
	}
	return slices.Clone(w.tasks), w.call("around.plan", func() error { return nil })
}

// steps is how many steps a task takes, by what its data counts.
const steps = 2

func (a *around) Do(_ context.Context, r *Role, t Task) Task {
	w := (*world)(a)
	if len(t.Secrets) > 0 {
		return w.refuse(r, t)
	}
	err := w.call("around.do", func() error { return nil })
	for _, other := range r.Snapshot().PostCommit.Tasks {
		if !other.Done && other.Stage < t.Stage {
			w.mu.Lock()
			w.breakf("%s is done before %s, which is open", t.Name, other.Name)
			w.mu.Unlock()
		}
	}
	now := w.now()
	switch {
	case err != nil:
		t.Next, t.Detail = now.Add(time.Minute), err.Error()
	case len(t.Data) < steps:
		t.Next, t.Data = now.Add(time.Minute), append(slices.Clone(t.Data), '1')
	default:
		t.Done, t.Failed, t.Detail = true, w.sick, "looked at"
	}
	return t
}

// watched is the same with an application that is watched.
func watched(sick bool, p func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		p(t, w)
		w.tasks, w.sick = []Task{{Name: "check/health", Required: true}, {Name: "destination/copy"}}, sick
	}
}

// copied is the same with an application that is watched once it has been given a
// copy, which the target takes or not.
func copied(sick bool, p func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		p(t, w)
		w.tasks = []Task{{Name: "check/health", Required: true, Stage: 1}, {Name: "destination/copy", Required: true}}
		w.sick = sick
	}
}

// TestStagesFollowEachOther fails in the first stage: the second is not begun.
func TestStagesFollowEachOther(t *testing.T) {
	t.Parallel()
	for _, sick := range []bool{false, true} {
		w := newWorld()
		copied(sick, prepare("db"))(t, w)
		version := w.role.Snapshot().Version
		_, err := w.do(rotate())
		must(t, err)
		if ready := w.role.Snapshot().PostCommit.ready(); len(ready) != 1 || ready[0].Name != "destination/copy" {
			t.Errorf("ready is %+v", ready)
		}
		if !w.idle(t, time.Hour, 20) {
			t.Fatal("it does not come to rest")
		}
		s := w.role.Snapshot()
		back, _ := s.latestOf(KindRollback)
		if (back != nil) != sick || s.Version-version == 1 == sick {
			t.Errorf("sick %t: version %d became %d, rolled back by %+v", sick, version, s.Version, back)
		}
		if sick && strings.Contains(back.Reason, "check/") {
			t.Errorf("what was not begun is among the reasons: %s", back.Reason)
		}
		w.settled(t)
	}
}

// TestAFailedCheckRollsBack watches after a rotation, and finds the application
// sick: readers get the values of before, as a new version, and the history tells
// why.
func TestAFailedCheckRollsBack(t *testing.T) {
	t.Parallel()
	w := newWorld()
	watched(true, prepare("db", "jwt", "app"))(t, w)
	before := w.role.Snapshot()
	rec, err := w.do(rotate())
	must(t, err)
	if s := w.role.Snapshot(); s.PostCommit == nil || s.PostCommit.ID != rec.ID || s.NextAction(w.now()).Kind != KindPostCommit {
		t.Fatalf("after the commit: %+v, next %+v", s.PostCommit, s.NextAction(w.now()))
	}
	if !w.idle(t, time.Hour, 20) {
		t.Fatal("it does not come to rest")
	}
	s := w.role.Snapshot()
	for name, secret := range s.Secrets {
		if secret.Current.Material["password"] != before.Secrets[name].Current.Material["password"] {
			t.Errorf("%s is not what it was", name)
		}
	}
	if s.Version != before.Version+2 {
		t.Errorf("version %d became %d", before.Version, s.Version)
	}
	back, _ := s.latestOf(KindRollback)
	if back == nil || back.Follows != rec.ID || back.Trigger != TriggerCheck || !strings.Contains(back.Reason, "check/health: looked at") || back.FailedTask() != "check/health" || len(back.FailedTasks) != 1 {
		t.Errorf("the rollback is recorded as %+v", back)
	}
	w.settled(t)
}

// latestOf returns the newest record of a kind that the outbox has.
func (s *State) latestOf(kind Kind) (*Record, error) {
	for _, e := range slices.Backward(s.Outbox) {
		rec, err := e.Decode()
		if err != nil || rec.Kind == kind {
			return &rec, err
		}
	}
	return nil, nil
}

// TestWhatFollowsDoesNotHoldUp rotates by hand, by the schedule and to revoke,
// while the application is watched.
func TestWhatFollowsDoesNotHoldUp(t *testing.T) {
	t.Parallel()
	w := newWorld()
	watched(true, prepare("db", "jwt"))(t, w)
	first, err := w.do(rotate())
	must(t, err)
	revoking := rotate()
	revoking.RequestID, revoking.RevokePrevious = "leak", true
	second, err := w.do(revoking)
	must(t, err)
	if !strings.Contains(strings.Join(second.Issues, "; "), first.ID) {
		t.Errorf("the issues of the second are %q", second.Issues)
	}
	if f := w.role.Snapshot().PostCommit; f == nil || f.ID != second.ID || f.Tasks[0].Required {
		t.Errorf("what follows a rotation that cannot be rolled back is %+v", f)
	}
	if !w.idle(t, time.Hour, 20) {
		t.Fatal("it does not come to rest")
	}
	s := w.role.Snapshot()
	rec, _ := s.latestOf(KindPostCommit)
	if s.Version != second.Version || s.PostCommit != nil || rec == nil || rec.Follows != second.ID || len(rec.Issues) == 0 {
		t.Errorf("version %d, %+v, recorded as %+v", s.Version, s.PostCommit, rec)
	}
	w.settled(t)
}

// TestNoWayBack has previous values that are gone when the check fails: what is
// current stays, and a person is asked for.
func TestNoWayBack(t *testing.T) {
	t.Parallel()
	w := newWorld()
	watched(true, prepare("db"))(t, w)
	_, err := w.do(rotate())
	must(t, err)
	version := w.role.Snapshot().Version
	w.advance(25 * time.Hour)
	w.idle(t, time.Hour, 20)
	s := w.role.Snapshot()
	if s.Version != version || s.PostCommit != nil || !s.NeedsAttention || !strings.Contains(s.LastError, "could not roll it back") {
		t.Errorf("version %d, %+v, needs attention %t: %s", s.Version, s.PostCommit, s.NeedsAttention, s.LastError)
	}
	w.tasks = nil
	_, err = w.do(rotate())
	must(t, err)
	w.settled(t)
}

// TestPlanRefuses has a check that fails before anything is changed.
func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld()
	watched(false, prepare("db"))(t, w)
	before := w.role.Snapshot().Version
	w.fail("around.plan", 0, fault{how: once})
	_, err := w.do(rotate())
	if err == nil || !strings.Contains(err.Error(), nowUnchanged) || w.role.Snapshot().Version != before {
		t.Errorf("version %d became %d: %v", before, w.role.Snapshot().Version, err)
	}
	w.settled(t)
}

// TestAScheduleWaitsForWhatFollows has a watch that is longer than the time to the
// next rotation, which then waits for its end.
func TestAScheduleWaitsForWhatFollows(t *testing.T) {
	t.Parallel()
	w := newWorld()
	prepare("db")(t, w)
	must(t, w.role.change(t.Context(), nil, func(s *State) error {
		s.Policy.Period, s.Policy.Overlap = 10*time.Hour, time.Hour
		return nil
	}))
	w.tasks = []Task{{Name: "check/health", Next: w.now().Add(20 * time.Hour)}}
	_, err := w.do(rotate())
	must(t, err)
	w.advance(2 * time.Hour)
	w.idle(t, time.Hour, 5) // the overlap ends
	due := w.role.Snapshot().NextRotation
	w.advance(due.Sub(w.now()) + time.Hour)
	if next := w.role.Snapshot().NextAction(w.now()); next.Kind != KindPostCommit {
		t.Errorf("next is %+v", next)
	}
}

// TestWatchGoesOnBesideAResolvedSecret has a secret be unresolved, and the other one be
// rotated by hand and watched by a required check. That the first one goes forward by
// itself does not end the watch, by which the other one is rolled back.
func TestWatchGoesOnBesideAResolvedSecret(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "db")
	w.fail("app.set", 0, fault{landed: true, how: once})
	w.always["app.undo"] = fault{how: refusals} // for example, the administrator's right was taken away
	w.always["app.probe"] = fault{how: forever} // and nobody may log in for a minute
	_, _ = w.do(rotate())
	if w.role.Snapshot().Secrets["app"].Unresolved == nil {
		t.Fatal("app is resolved")
	}
	before := w.role.Snapshot().Secrets["db"].Current.Material
	w.tasks, w.sick = []Task{{Name: "check/health", Required: true}}, true
	rec, err := w.do(rotate("db"))
	must(t, err)
	if f := w.role.Snapshot().PostCommit; f == nil || f.ID != rec.ID {
		t.Fatalf("nothing is watched: %+v", f)
	}
	delete(w.always, "app.probe")
	must(t, w.role.change(t.Context(), nil, func(s *State) error { s.NeedsAttention = true; return nil }))
	w.idle(t, time.Minute, 1)
	if s := w.role.Snapshot(); s.Secrets["app"].Unresolved != nil || !s.NeedsAttention || strings.Contains(strings.Join(s.Latest().Issues, "\n"), "were not finished") {
		t.Errorf("resolved, and attention needed %t: %+v", s.NeedsAttention, s.Latest())
	}
	must(t, w.role.change(t.Context(), nil, func(s *State) error { s.NeedsAttention = false; return nil }))
	w.idle(t, 2*time.Hour, 20)
	if now := w.role.Snapshot().Secrets["db"].Current.Material; now["password"] != before["password"] {
		t.Errorf("the application does not get on with the new value of db, the check would have said so, and nothing was rolled back: %q", w.role.Snapshot().Latest().Issues)
	}
}
