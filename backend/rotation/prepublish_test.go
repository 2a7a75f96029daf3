package rotation

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// next is the material that the role publishes ahead for jwt.
func (w *world) nextKey() string {
	if next := w.role.Snapshot().Secrets["jwt"].Next; next != nil {
		return next.Material["secret"]
	}
	return ""
}

func (w *world) currentKey() string {
	return w.role.Snapshot().Secrets["jwt"].Current.Material["secret"]
}

// TestNextBecomesCurrent rotates, and rolls back, and rotates again: what becomes
// current was published by the rotation before, and a rollback changes nothing
// about what comes next.
func TestNextBecomesCurrent(t *testing.T) {
	t.Parallel()
	w := made(t, "jwt", "db")
	for range 5 {
		published := w.nextKey()
		_, err := w.do(rotate())
		must(t, err)
		if published == "" || w.currentKey() != published || w.nextKey() == published {
			t.Fatalf("next was %q, current is %q, next is %q", published, w.currentKey(), w.nextKey())
		}
		w.advance(time.Hour)
		following := w.nextKey()
		_, err = w.do(Request{Kind: KindRollback, Trigger: TriggerManual})
		must(t, err)
		if w.nextKey() != following || w.currentKey() == published {
			t.Fatal("a rollback changes what comes next, or nothing")
		}
		w.advance(25 * time.Hour)
	}
	if w.role.Snapshot().Secrets["db"].Next != nil {
		t.Error("a login is published ahead")
	}
	w.settled(t)
}

// TestARotationTooEarlyWarns rotates by hand before everybody can have seen what
// it makes current: always fine for the first rotation of a secret, and after one
// refresh interval.
func TestARotationTooEarlyWarns(t *testing.T) {
	t.Parallel()
	w := made(t, "jwt")
	for i, c := range []struct {
		pause time.Duration
		warns bool
	}{{0, false}, {10 * time.Second, true}, {59 * time.Second, true}, {time.Minute, false}} {
		w.advance(c.pause)
		request := rotate()
		request.RevokePrevious = true // no overlap to warn of
		rec, err := w.do(request)
		must(t, err)
		got := strings.Join(rec.Issues, "\n")
		if warns := strings.Contains(got, "secret jwt: the new value was published only "+c.pause.String()+" ago"); warns != c.warns {
			t.Errorf("rotation %d after %s says %q", i, c.pause, got)
		}
	}
	w.settled(t)
}

// TestAScheduleWaitsForVerifiers has a next value published shortly before the
// scheduled rotation: that waits, and says so beforehand.
func TestAScheduleWaitsForVerifiers(t *testing.T) {
	t.Parallel()
	w := made(t, "jwt", "db")
	due := w.role.Snapshot().NextRotation
	w.advance(due.Sub(w.now()) - 10*time.Second)
	request := rotate("jwt")
	request.RevokePrevious = true // the end of an overlap would be waited for as well
	_, err := w.do(request)
	must(t, err)
	s := w.role.Snapshot()
	want := w.now().Truncate(time.Second).Add(time.Minute)
	if at := s.NextAction(w.now()); at.Kind != KindRotate || !at.At.Equal(want) || !s.Planned().Equal(want) || !s.NextRotation.Equal(due) {
		t.Errorf("%s at %v, planned for %v, want %v", at.Kind, at.At, s.Planned(), want)
	}
	if s.Overdue(want.Add(overdueAfter)) {
		t.Error("waiting for verifiers is not being late")
	}
	if ttl := s.TTL(want.Add(-20 * time.Second)); ttl != 20*time.Second {
		t.Errorf("readers are told %s", ttl)
	}
	w.idle(t, 2*time.Minute, 10)
	if now := w.role.Snapshot(); now.Version != s.Version+1 || !now.LastRotation.Equal(want) {
		t.Errorf("version %d at %v, want one more than %d at %v", now.Version, now.LastRotation, s.Version, want)
	}
	w.settled(t)
}

// TestNextThatDoesNotFit changes the configuration, before a rotation and in the
// middle of one: what does not fit any more never becomes current.
func TestNextThatDoesNotFit(t *testing.T) {
	t.Parallel()
	w := made(t, "jwt")
	reconfigure := func() {
		must(t, w.role.change(t.Context(), nil, func(s *State) error {
			s.Secrets["jwt"].Config = json.RawMessage(`{"format":2}`)
			return nil
		}))
	}
	reconfigure()
	stale := w.nextKey()
	rec, err := w.do(rotate())
	must(t, err)
	if w.currentKey() == stale || !strings.Contains(strings.Join(rec.Issues, " "), "published only 0s ago") {
		t.Errorf("what was published does not fit, and is current: %v; %v", w.currentKey() == stale, rec.Issues)
	}
	w.hooks = map[string]func(){"jwt.set": func() {
		must(t, w.role.change(t.Context(), nil, func(s *State) error {
			s.Secrets["jwt"].Config = json.RawMessage(`{"format":3}`)
			return nil
		}))
	}}
	_, err = w.do(rotate())
	must(t, err)
	if w.nextKey() != "" {
		t.Error("what does not fit is published")
	}
	w.hooks = nil
	_, err = w.do(rotate())
	must(t, err)
	if w.nextKey() == "" {
		t.Error("nothing is published any more")
	}
	w.settled(t)
}

// TestRecoveryPublishes lets the process die before the commit: who goes forward
// makes what comes next.
func TestRecoveryPublishes(t *testing.T) {
	t.Parallel()
	w := made(t, "jwt", "db")
	published := w.nextKey()
	w.fail("db.test", 0, fault{how: death})
	_, _ = w.do(rotate())
	w.heal()
	w.boot(t)
	w.idle(t, time.Hour, 10)
	if s := w.role.Snapshot(); w.currentKey() != published || w.nextKey() == "" || w.nextKey() == published || s.Secrets["jwt"].Next.Published.IsZero() {
		t.Errorf("current is %q, published was %q, next is %q", w.currentKey(), published, w.nextKey())
	}
	w.settled(t)
}

// TestTheFirstFormatGoesOn reads a state of the first format, which has no next
// values, and rotates it.
func TestTheFirstFormatGoesOn(t *testing.T) {
	t.Parallel()
	w := made(t, "jwt")
	must(t, w.role.change(t.Context(), nil, func(s *State) error { s.Secrets["jwt"].Next = nil; return nil }))
	w.stop()
	w.state = []byte(strings.Replace(string(w.state), `{"schema":2,`, `{"schema":1,`, 1))
	w.boot(t)
	if got := w.role.Snapshot().Schema; got != 1 {
		t.Fatalf("it is of format %d", got)
	}
	_, err := w.do(rotate())
	must(t, err)
	if w.nextKey() == "" || w.role.Snapshot().Schema != Schema {
		t.Error("nothing is published, or the format is still the first")
	}
	w.settled(t)
}

// TestMemoIsOfOneSnapshot works something out once for each state.
func TestMemoIsOfOneSnapshot(t *testing.T) {
	t.Parallel()
	w := made(t, "jwt")
	calls := 0
	work := func() any { calls++; return calls }
	for range 3 {
		w.role.Snapshot().Memo("jwt", work)
	}
	if calls != 1 || w.role.Snapshot().Memo("other", work) != 2 {
		t.Errorf("%d calls", calls)
	}
	_, err := w.do(rotate())
	must(t, err)
	if w.role.Snapshot().Memo("jwt", work) != 3 {
		t.Error("what was worked out outlives its state")
	}
}
