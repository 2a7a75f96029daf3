package rotation

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// longWait is how long after its overlap a needed value is kept here.
const longWait = 10 * time.Minute

// needed is a role at the time of the first look, whose previous values readers need, with
// that limit.
func needed(t *testing.T, secrets ...string) *world {
	t.Helper()
	w := newWorld()
	unread(rotated(24*time.Hour-lookAhead, secrets...))(t, w)
	must(t, w.role.change(t.Context(), nil, func(s *State) error {
		s.Policy.OverlapLimit = s.Policy.Overlap + longWait
		return nil
	}))
	return w
}

// reads has the readers of a secret read what replaced its value.
func (w *world) reads(secret string) {
	delete(w.late, identity(w.role.Snapshot().Secrets[secret].Previous.Material))
}

// valid checks that the previous value of a secret is valid, here and on another node.
func (w *world) valid(t *testing.T, secret string) {
	t.Helper()
	for _, s := range []*State{w.role.Snapshot().State, w.stored} {
		if s.Secrets[secret].PreviousAt(w.now()) == nil {
			t.Fatalf("the previous value of %s is not valid at %s: %+v", secret, w.now(), s.Secrets[secret].Previous)
		}
	}
}

// TestASlowServerBesideAWait takes as long as a step may, at every look.
func TestASlowServerBesideAWait(t *testing.T) {
	t.Parallel()
	w := needed(t, "jwt", "strict")
	defer func() { w.stop() }()
	w.reads("strict")
	w.open[w.role.Snapshot().Secrets["strict"].Previous.Material["password"]] = 1
	looks := 0
	w.hooks = map[string]func(){"strict.look": func() {
		for range 10 {
			w.valid(t, "jwt")
			w.valid(t, "strict")
			w.advance(stepTimeout / 10)
		}
		looks++
	}}
	for looks < 3 {
		w.idle(t, drainPause, 1)
		w.valid(t, "jwt")
		w.valid(t, "strict")
	}
	w.hooks = nil
	w.idle(t, longWait, 50)
	records := w.retirements(t)
	if len(records) == 0 || looks != 3 || !slices.Equal(records[0].Results[0].NeededBy, []string{reader}) {
		t.Errorf("after %d looks: %+v", looks, records)
	}
	w.settled(t)
}

// TestAFailingRetirementBesideAWait has pauses that hold up no look, and that no look ends.
func TestAFailingRetirementBesideAWait(t *testing.T) {
	t.Parallel()
	w := needed(t, "jwt", "db")
	defer func() { w.stop() }()
	w.reads("db")
	w.always["db.retire"] = fault{how: forever}
	end := w.now().Add(longWait - time.Minute)
	for w.now().Before(end) {
		if !w.idle(t, 0, 3) {
			t.Fatal("it does not come to rest")
		}
		w.valid(t, "jwt")
		if late := w.now().Sub(w.role.Snapshot().Secrets["jwt"].Previous.LookTime); late >= 0 {
			t.Fatalf("a look is %s late", late)
		}
		w.advance(time.Second)
	}
	tried := len(slices.DeleteFunc(slices.Clone(w.calls), func(name string) bool { return name != "db.retire" }))
	if tried < 3 || tried > 8 {
		t.Errorf("in ten minutes it was tried to retire the login %d times", tried)
	}
	w.reads("jwt")
	before := w.role.Snapshot()
	w.idle(t, drainPause, 1)
	if after := w.role.Snapshot(); after.Secrets["jwt"].Previous != nil || after.Secrets["db"].Previous == nil || after.Failures < before.Failures || after.RetryAt.Before(before.RetryAt) {
		t.Errorf("when nobody needs the key: %+v after %d failures, paused until %s", after.Secrets["jwt"].Previous, after.Failures, after.RetryAt)
	}
	w.heal()
	w.idle(t, 2*time.Hour, 5)
	if s := w.role.Snapshot(); s.Secrets["db"].Previous != nil || s.Failures != 0 || s.LastError != "" {
		t.Errorf("afterwards: %+v", s.State)
	}
	w.settled(t)
}

// TestAFailoverDuringAWait has no node look for minutes.
func TestAFailoverDuringAWait(t *testing.T) {
	t.Parallel()
	w := needed(t, "jwt")
	defer func() { w.stop() }()
	w.idle(t, 0, 1)
	w.stop()
	for range 5 {
		w.advance(time.Minute)
		w.valid(t, "jwt")
	}
	w.boot(t)
	w.valid(t, "jwt")
	if fresh := w.role.Snapshot().Fresh(w.role.Snapshot().Secrets["jwt"], w.now()); fresh != inFlightTTL {
		t.Errorf("verifiers may keep what the next look may end for %s", fresh)
	}
	w.reads("jwt")
	w.idle(t, 0, 1)
	w.valid(t, "jwt") // the node is new to its readers
	w.idle(t, w.role.Snapshot().Resolved.RefreshInterval, 5)
	if s := w.role.Snapshot(); s.Secrets["jwt"].Previous != nil || w.retirements(t)[0].Results[0].NeededBy != nil {
		t.Errorf("nobody needs it: %+v", s.Secrets["jwt"].Previous)
	}
	w.settled(t)
}

// TestARotationThatIsMovedIntoAWait ends it, at its time.
func TestARotationThatIsMovedIntoAWait(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{time.Second, 7 * time.Second, time.Minute} {
		w := needed(t, "jwt", "db")
		w.idle(t, 20*time.Second, 3)
		due := w.now().Add(after)
		must(t, w.role.change(t.Context(), nil, func(s *State) error { s.NextRotation = due; return nil }))
		s := w.role.Snapshot()
		if waits := s.Waits(w.now()); len(waits) != 2 || !waits[0].Until.Equal(due) || !s.Planned().Equal(due) || !s.WaitsUntil(w.now()).IsZero() {
			t.Errorf("it waits for %+v, and the next rotation is planned for %s, want %s", waits, s.Planned(), due)
		}
		w.idle(t, after, 20)
		if s := w.role.Snapshot(); s.Version != 4 || !s.LastRotation.Equal(due) {
			t.Errorf("a rotation that is due at %s made version %d at %s", due, s.Version, s.LastRotation)
		}
		w.settled(t)
		w.stop()
	}
}

// TestALookThatComesTooLate begins no wait for a key, which was refused meanwhile. It begins
// one for a login, which its server has accepted all along.
func TestALookThatComesTooLate(t *testing.T) {
	t.Parallel()
	for late, waits := range map[time.Duration]bool{0: true, lookBehind: true, lookBehind + time.Second: false, longWait / 2: false} {
		w := needed(t, "jwt", "strict")
		w.open[w.role.Snapshot().Secrets["strict"].Previous.Material["password"]] = 1
		w.stop()
		w.advance(lookAhead + late)
		w.resume(t)
		w.idle(t, 0, 1)
		for name, secret := range w.role.Snapshot().Secrets {
			if is := secret.PreviousAt(w.now()) != nil; is != (waits || name == "strict") {
				t.Errorf("%s, looked at %s after its overlap: %+v", name, late, secret.Previous)
			}
		}
		w.settled(t)
		w.stop()
	}
}

// TestAWaitOfAnEarlierVersion goes on to the end that it was given.
func TestAWaitOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	for _, reads := range []bool{false, true} {
		w := needed(t, "jwt", "strict")
		until := w.now().Add(3 * time.Minute)
		must(t, w.role.change(t.Context(), nil, func(s *State) error {
			for _, secret := range s.Secrets {
				previous := *secret.Previous
				previous.RetireTime, previous.DrainUntil, previous.WaitsFor = w.now().Add(drainPause), until, []string{reader}
				secret.Previous = &previous
			}
			return nil
		}))
		if reads {
			clear(w.late)
		}
		w.idle(t, drainPause, 1)
		for name, secret := range w.role.Snapshot().Secrets {
			switch previous := secret.Previous; {
			case reads && previous != nil:
				t.Errorf("%s, which nobody needs: %+v", name, previous)
			case !reads && (previous == nil || !previous.RetireTime.Equal(until) || previous.LookTime.IsZero()):
				t.Errorf("%s, which somebody needs until %s: %+v", name, until, previous)
			}
		}
		w.settled(t)
		w.stop()
	}
}

// TestALookOfAClockThatWasAhead comes soon.
func TestALookOfAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	w := needed(t, "jwt")
	defer func() { w.stop() }()
	w.idle(t, 0, 1)
	must(t, w.role.change(t.Context(), nil, func(s *State) error {
		previous := *s.Secrets["jwt"].Previous
		previous.RetireTime = w.now().Add(2 * time.Hour)
		previous.LookTime, previous.DrainUntil = w.now().Add(time.Hour), previous.RetireTime
		s.Secrets["jwt"].Previous = &previous
		return nil
	}))
	w.broken = nil // the limit is another one
	w.idle(t, 0, 1)
	if s := w.role.Snapshot(); s.Rewound == nil || !slices.Equal(s.Rewound.Times, []string{"jwt: look_time"}) || !s.Secrets["jwt"].Previous.LookTime.Equal(w.now().Add(drainPause)) {
		t.Errorf("the next look is at %s: %v", s.Secrets["jwt"].Previous.LookTime, s.Rewound)
	}
}

// TestWho leaves out what changes though nobody comes or goes.
func TestWho(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range maxNames {
		names = append(names, fmt.Sprint(i))
	}
	if got := (Wait{For: few(append(names, "x", "y"))}).Who(); !slices.Equal(got, names) {
		t.Errorf("of many names: %q", got)
	}
	for _, name := range []string{openSessions, uncounted(errFault), uncounted(errDead)} {
		if got := (Wait{For: []string{reader, name}}).Who(); !slices.Equal(got, []string{reader, openSessions}) {
			t.Errorf("of %q: %q", name, got)
		}
	}
}

// TestFailoverAtTheEndOfAnOverlap has a reader be late, whom overlap_limit leaves ten
// minutes more, and a failover of two minutes fall on the end of the overlap.
func TestFailoverAtTheEndOfAnOverlap(t *testing.T) {
	t.Parallel()
	w := needed(t, "strict")
	defer func() { w.stop() }()
	w.stop()
	w.advance(lookAhead + 2*time.Minute)
	w.boot(t)
	w.idle(t, time.Second, 5)
	if w.users["app_a"] == "" {
		t.Errorf("the engine retired the login of a late reader %s before overlap_limit: %q", longWait-2*time.Minute, w.role.Snapshot().Latest().Issues)
	}
}

// strictUndo undoes as the type database does: a previous value whose overlap has ended
// does not come back.
type strictUndo struct{ drainer }

func (d *strictUndo) Undo(ctx context.Context, s Secret, fence Fence) error {
	s.Previous = s.PreviousAt(d.w.now())
	return d.drainer.Undo(ctx, s, fence)
}

// TestNoWaitForAClearedLogin has a rotation fail within a minute of the end of an overlap,
// and so remove the previous login: the engine does not begin to wait for the reader who
// needs it, and does not give it to readers again.
func TestNoWaitForAClearedLogin(t *testing.T) {
	t.Parallel()
	w := needed(t, "strict")
	defer func() { w.stop() }()
	w.stop()
	w.boot(t)
	w.engine.Drivers["strict"] = &strictUndo{drainer{alternating{w}, TerminateAtEnd}}
	w.advance(lookAhead + 10*time.Second) // workers were busy
	w.fail("strict.test", 0, fault{how: refused})
	if _, err := w.do(rotate()); err == nil {
		t.Fatal("it did not fail")
	}
	w.idle(t, 0, 1)
	if v := w.role.Snapshot().Secrets["strict"].PreviousAt(w.now()); v != nil && w.login(v.Material) != nil {
		t.Errorf("the engine waits until %s for who needs the previous login, and that is refused since the failed rotation", v.RetireTime)
	}
}
