package rotation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// asking is the same with an application that is asked to refuse retired keys.
func asking(p func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		p(t, w)
		w.asks = []string{"jwt"}
	}
}

// refusals are the tasks of a retirement.
func (w *world) refusals(secrets []string) []Task {
	var tasks []Task
	for _, name := range secrets {
		if slices.Contains(w.asks, name) {
			tasks = append(tasks, Task{Name: "check/" + name, Secrets: []string{name}})
		}
	}
	return tasks
}

// refuse is an application that is asked to refuse a retired value. It checks that
// readers were told, and that the value is still there to be sent.
func (w *world) refuse(r *Role, t Task) Task {
	name := t.Secrets[0]
	secret := r.Snapshot().Secrets[name]
	version := fmt.Sprintf("%d/%s", secret.Previous.Version, name)
	err := w.call(name+".ask", func() error {
		switch previous := secret.Previous; {
		case secret.PreviousAt(w.clock) != nil:
			w.breakf("the application is asked to refuse %s while readers get it", version)
		case w.clock.Before(previous.RetireTime.Add(time.Minute)):
			w.breakf("the application is asked to refuse %s before readers were told", version)
		}
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[version] = true
	switch t.Done = true; {
	case err != nil:
		t.Failed, t.Finding, t.Detail = true, FoundNothing, err.Error()
	case w.sick:
		t.Failed, t.Finding, t.Detail = true, FoundAccepted, "status 200"
	default:
		t.Finding, t.Detail = FoundRefused, "status 401"
	}
	return t
}

// watchAsked checks that no value is destroyed that an application is to be asked about,
// and was not.
func (w *world) watchAsked(old, next *Secret) {
	if old == nil || old.Previous == nil || next.Previous != nil || !slices.Contains(w.asks, next.Name) {
		return
	}
	if version := fmt.Sprintf("%d/%s", old.Previous.Version, next.Name); !w.asked[version] {
		w.breakf("%s is destroyed, and no application was asked to refuse it", version)
	}
}

// TestApplicationsAreAsked goes through the end of an overlap, whatever the application
// answers: readers are told first, the answer is recorded, and the value dies.
func TestApplicationsAreAsked(t *testing.T) {
	t.Parallel()
	for _, accepts := range []bool{false, true} {
		w := newWorld()
		asking(rotated(24*time.Hour, "db", "jwt"))(t, w)
		w.sick = accepts
		ended := w.now()
		rec, err := w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule})
		must(t, err)
		s := w.role.Snapshot()
		if len(rec.Secrets) != 1 || rec.Secrets[0] != "db" || s.Secrets["jwt"].Previous == nil || s.Secrets["jwt"].PreviousAt(w.now()) != nil {
			t.Errorf("at the end of the overlap %q is retired, and the key is %+v", rec.Secrets, s.Secrets["jwt"].Previous)
		}
		if next := s.NextAction(w.now()); next.Kind != KindRetire || !next.At.Equal(ended.Add(time.Minute)) {
			t.Errorf("next is %+v", next)
		}
		w.idle(t, time.Hour, 5)
		s = w.role.Snapshot()
		rec = *s.Latest()
		finding, issue := FoundRefused, "is refused and destroyed"
		if accepts {
			finding, issue = FoundAccepted, "is destroyed, but an application accepts it: check/jwt: status 200"
		}
		if s.Secrets["jwt"].Previous != nil || rec.Kind != KindRetire || len(rec.Tasks) != 1 || rec.Tasks[0].Finding != finding || rec.Open() || !strings.Contains(strings.Join(rec.Issues, "; "), issue) {
			t.Errorf("the retirement is recorded as %+v", rec)
		}
		if len(s.Asked) != 1 || s.Asked[0].Finding != finding || s.Asked[0].ID != rec.ID {
			t.Errorf("what was answered is %+v", s.Asked)
		}
		_, err = w.do(rotate())
		must(t, err)
		if asked := w.role.Snapshot().Asked; len(asked) != 0 {
			t.Errorf("after the next rotation, what was answered is %+v", asked)
		}
		w.settled(t)
	}
}

// TestAskingHoldsUpARotationBriefly has a rotation due at the end of the overlap: it
// waits until the application was asked, and no longer.
func TestAskingHoldsUpARotationBriefly(t *testing.T) {
	t.Parallel()
	w := newWorld()
	asking(rotated(24*time.Hour, "jwt"))(t, w)
	must(t, w.role.change(t.Context(), nil, func(s *State) error { s.NextRotation = w.now(); return nil }))
	due, version := w.now(), w.role.Snapshot().Version
	if !w.idle(t, 2*time.Minute, 10) {
		t.Fatal("it does not come to rest")
	}
	s := w.role.Snapshot()
	if late := s.LastRotation.Sub(due); s.Version != version+1 || late != time.Minute || !w.asked[fmt.Sprintf("%d/jwt", version-1)] {
		t.Errorf("version %d became %d, %s late; asked about: %v", version, s.Version, late, w.asked)
	}
	w.settled(t)
}

// TestALateRetirementAsksAtOnce has an overlap end while nobody was there, or another
// version, which kept no time to wait for: readers had the time to hear of it.
func TestALateRetirementAsksAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld()
	asking(rotated(24*time.Hour+time.Minute, "jwt"))(t, w)
	rec, err := w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule})
	must(t, err)
	if w.role.Snapshot().Secrets["jwt"].Previous != nil || len(rec.Tasks) != 1 || rec.Tasks[0].Finding != FoundRefused {
		t.Errorf("the retirement is recorded as %+v", rec)
	}
	w.settled(t)
}
