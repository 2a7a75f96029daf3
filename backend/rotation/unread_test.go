package rotation

import (
	"strings"
	"testing"
	"time"
)

// TestOverlapThatNobodyCouldUse has an overlap pass while Vault is down, and again while it
// is down for the time that its start has added: readers have their refresh interval at
// each start, and no longer.
func TestOverlapThatNobodyCouldUse(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string]string{"login": "db", "key": "jwt"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			rotated(time.Second, secret, "api", "app")(t, w)
			defer func() { w.stop() }()
			interval := w.role.Snapshot().Resolved.RefreshInterval
			for range 2 {
				w.stop()
				w.advance(25 * time.Hour)
				w.always["app.probe"] = fault{how: forever} // nobody has to ask whether it is dead
				w.boot(t)
				began := w.now()
				w.idle(t, 0, 5)
				w.advance(interval - time.Second)
				w.idle(t, 0, 5)
				w.valid(t, secret)
				if v := w.role.Snapshot().Secrets[secret].Previous; v.Material["username"] != "" && w.login(v.Material) != nil {
					t.Errorf("after %s, the login that readers have is refused", w.now().Sub(began))
				}
				for _, name := range []string{"api", "app"} { // nobody reads the one, and the other is dead
					if v := w.role.Snapshot().Secrets[name].Previous; v != nil {
						t.Errorf("%s waits: %+v", name, v)
					}
				}
			}
			w.idle(t, time.Second, 5)
			if v := w.role.Snapshot().Secrets[secret].Previous; v != nil {
				t.Errorf("a refresh interval after the start: %+v", v)
			}
			w.settled(t)
		})
	}
}

// TestRotationAfterAnOutage has the next rotation be due as well when Vault is back, as it
// was planned or after attempts that failed: it sets the login that readers still have.
func TestRotationAfterAnOutage(t *testing.T) {
	t.Parallel()
	for _, failures := range []int{0, 3} {
		w := newWorld()
		rotated(time.Second, "db")(t, w)
		end := w.role.Snapshot().Secrets["db"].Previous.RetireTime
		must(t, w.role.change(t.Context(), nil, func(s *State) error {
			s.Failures, s.NextRotation = failures, end
			return nil
		}))
		w.stop()
		w.advance(100 * 24 * time.Hour)
		w.boot(t)
		w.idle(t, 0, 5)
		w.advance(w.role.Snapshot().Resolved.RefreshInterval - time.Second)
		w.idle(t, 0, 5)
		if s := w.role.Snapshot(); s.Version != 2 || w.login(s.Secrets["db"].Previous.Material) != nil {
			t.Errorf("after %d failures, the login that readers have is refused, in version %d", failures, s.Version)
		}
		w.idle(t, time.Second, 5)
		if s := w.role.Snapshot(); s.Version != 3 {
			t.Errorf("after %d failures, nothing was rotated: %+v", failures, s.State)
		}
		w.settled(t)
		w.stop()
	}
}

// TestRotationAfterAnOutageInAWait has it be due while a reader is waited for: a wait holds
// up no rotation, and the interval in which readers can read again does.
func TestRotationAfterAnOutageInAWait(t *testing.T) {
	t.Parallel()
	w := needed(t, "jwt")
	defer func() { w.stop() }()
	w.idle(t, 0, 1)
	due := w.now().Add(time.Minute)
	must(t, w.role.change(t.Context(), nil, func(s *State) error { s.NextRotation = due; return nil }))
	w.stop()
	w.advance(2 * time.Minute)
	w.boot(t)
	interval := w.role.Snapshot().Resolved.RefreshInterval
	w.idle(t, interval-time.Second, 5)
	if s := w.role.Snapshot(); s.Version != 2 {
		t.Errorf("the rotation did not leave readers the time to read: version %d", s.Version)
	}
	w.idle(t, interval, 5)
	if s := w.role.Snapshot(); s.Version != 3 || !s.LastRotation.Equal(due.Add(time.Minute+interval)) {
		t.Errorf("version %d was made at %s", s.Version, s.LastRotation)
	}
	w.settled(t)
}

// TestOutagesInAWait has readers get their interval also at a second start, in which nobody
// is waited for any more, but not after somebody has ended the overlap.
func TestOutagesInAWait(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		outages int
		ended   bool
	}{{2, false}, {2, true}, {0, true}} {
		w := needed(t, "db")
		w.idle(t, 0, 1)
		interval := w.role.Snapshot().Resolved.RefreshInterval
		for range c.outages {
			w.stop()
			w.advance(25 * time.Hour)
			w.boot(t)
			w.idle(t, interval-time.Second, 5)
			w.valid(t, "db")
		}
		if c.ended {
			w.always["db.retire"] = fault{how: forever}
			_, err := w.do(Request{Kind: KindRetire, Trigger: TriggerManual, Force: true})
			if err == nil {
				t.Fatal("no error")
			}
			w.heal()
		}
		w.stop()
		w.advance(25 * time.Hour)
		w.boot(t)
		w.idle(t, 0, 5)
		if left := w.role.Snapshot().Secrets["db"].Previous; c.ended != (left == nil) {
			t.Errorf("after %+v: %+v", c, left)
		}
		w.idle(t, time.Hour, 5)
		w.settled(t)
		w.stop()
	}
}

// TestStartsInARow, each before the end that the one before has set, make an overlap longer
// by no more than overlaps take, and one refresh interval.
func TestStartsInARow(t *testing.T) {
	t.Parallel()
	w := newWorld()
	rotated(24*time.Hour, "jwt")(t, w)
	defer func() { w.stop() }()
	must(t, w.role.change(t.Context(), nil, func(s *State) error {
		s.Policy.RefreshInterval = s.Policy.Overlap / 2
		return nil
	}))
	resolved, began := w.role.Snapshot().Resolved, w.now()
	for w.role.Snapshot().Secrets["jwt"].Previous != nil {
		w.stop()
		w.boot(t)
		w.idle(t, resolved.RefreshInterval-time.Hour, 5)
		w.advance(resolved.RefreshInterval - time.Hour)
		if longer := w.now().Sub(began); longer > resolved.Overlap+2*resolved.RefreshInterval {
			t.Fatalf("longer by %s: %+v", longer, w.role.Snapshot().Secrets["jwt"].Previous)
		}
	}
	if longer := w.now().Sub(began); longer < resolved.Overlap {
		t.Errorf("longer by %s only", longer)
	}
	w.settled(t)
}

// TestStartWithAClockThatIsAhead, within an overlap, makes that longer by the clock as it is.
// When it is set right, the overlap is as long as it was to be, and what waits for its end
// comes in time.
func TestStartWithAClockThatIsAhead(t *testing.T) {
	t.Parallel()
	const ahead = 3 * 365 * 24 * time.Hour
	for name, prepare := range map[string]func(t *testing.T) *world{
		"overlap": func(t *testing.T) *world {
			t.Helper()
			w := newWorld()
			rotated(time.Minute, "db", "jwt")(t, w)
			return w
		},
		"wait": func(t *testing.T) *world {
			t.Helper()
			w := needed(t, "db", "jwt")
			w.idle(t, 0, 1)
			return w
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := prepare(t)
			defer func() { w.stop() }()
			end, next := w.role.Snapshot().Secrets["db"].Previous.RetireTime, w.role.Snapshot().NextRotation
			if name == "wait" {
				end = w.now().Add(w.role.Snapshot().Resolved.RefreshInterval)
			}
			w.stop()
			w.advance(ahead)
			w.boot(t)
			w.idle(t, 0, 5)
			w.advance(-ahead)
			w.began = w.now()
			w.idle(t, 0, 1)
			s := w.role.Snapshot()
			for _, secret := range []string{"db", "jwt"} {
				w.valid(t, secret)
				if got := s.Secrets[secret].Previous.RetireTime; got.Sub(end).Abs() > time.Second {
					t.Errorf("the overlap of %s ends at %s, want %s", secret, got, end)
				}
			}
			if s.Rewound == nil {
				t.Error("nobody is told of it")
			}
			clear(w.late)
			w.idle(t, next.Sub(w.now()), 20)
			if s := w.role.Snapshot(); s.Version != 4 || !s.LastRotation.Equal(next) {
				t.Errorf("version %d was made at %s, want %s", s.Version, s.LastRotation, next)
			}
			w.settled(t)
		})
	}
}

// TestRotationByHandAfterAnOutage comes before the engine has looked at the overlaps that
// have ended meanwhile. It fails, and readers have the login that they had.
func TestRotationByHandAfterAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld()
	rotated(25*time.Hour, "db")(t, w)
	w.stop()
	w.boot(t)
	defer w.stop()
	w.fail("db.test", 0, fault{how: refused})
	if _, err := w.do(rotate()); err == nil {
		t.Fatal("no error")
	}
	w.valid(t, "db")
	if v := w.role.Snapshot().Secrets["db"].Previous; w.login(v.Material) != nil {
		t.Error("the login that readers have is refused")
	}
	w.idle(t, time.Hour, 5)
	w.settled(t)
}

// TestRefusedLoginAfterAnOutage: a previous login that its server refuses is not given to
// readers again, neither by the engine itself nor by an operation that comes first.
func TestRefusedLoginAfterAnOutage(t *testing.T) {
	t.Parallel()
	for _, byHand := range []bool{false, true} {
		w := newWorld()
		rotated(25*time.Hour, "db")(t, w)
		w.users[w.role.Snapshot().Secrets["db"].Previous.Material["username"]] = ""
		w.stop()
		w.boot(t)
		if byHand {
			w.fail("db.create", 0, fault{how: once})
			if _, err := w.do(rotate()); err == nil {
				t.Fatal("no error")
			}
		} else {
			w.idle(t, 0, 5)
		}
		if s := w.role.Snapshot().Secrets["db"]; s.PreviousAt(w.now()) != nil {
			t.Errorf("by hand: %t; valid again: %+v", byHand, s.Previous)
		}
		w.idle(t, time.Hour, 5)
		w.settled(t)
		w.stop()
	}
}

// TestRetirementInterruptedAfterAStart: a value whose retirement was interrupted, and may be
// dead, is not valid again.
func TestRetirementInterruptedAfterAStart(t *testing.T) {
	t.Parallel()
	w := newWorld()
	rotated(24*time.Hour, "db")(t, w)
	w.fail("db.retire", 0, fault{how: death, landed: true})
	_, _ = w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule})
	if !w.isDead() {
		t.Fatal("still alive")
	}
	w.boot(t)
	defer w.stop()
	w.always["db.retire"] = fault{how: forever}
	w.idle(t, 0, 1)
	if s := w.role.Snapshot().Secrets["db"]; s.PreviousAt(w.now()) != nil {
		t.Errorf("valid again: %+v", s.Previous)
	}
	w.heal()
	w.idle(t, time.Hour, 5)
	w.settled(t)
}

// TestFormat1AfterAStart: a value that says nothing of when it was replaced, and so not
// whether it was revoked, is not valid again.
func TestFormat1AfterAStart(t *testing.T) {
	t.Parallel()
	w := newWorld()
	rotated(0, "jwt")(t, w)
	defer func() { w.stop() }()
	must(t, w.role.change(t.Context(), nil, func(s *State) error {
		previous := *s.Secrets["jwt"].Previous
		previous.RetireTime, previous.Replaced = w.clock, time.Time{}
		s.Secrets["jwt"].Previous = &previous
		return nil
	}))
	w.stop()
	w.boot(t)
	w.idle(t, 0, 5)
	if v := w.role.Snapshot().Secrets["jwt"].Previous; v != nil {
		t.Errorf("a revoked value is kept: %+v", v)
	}
}

// TestRevokedByAnEarlierVersion, which did not note that nobody is waited for, is not valid
// again after a start.
func TestRevokedByAnEarlierVersion(t *testing.T) {
	t.Parallel()
	w := newWorld()
	rotated(0, "jwt")(t, w)
	defer func() { w.stop() }()
	must(t, w.role.change(t.Context(), nil, func(s *State) error {
		previous := *s.Secrets["jwt"].Previous
		previous.RetireTime = previous.Replaced
		s.Secrets["jwt"].Previous = &previous
		return nil
	}))
	w.stop()
	w.boot(t)
	w.idle(t, 0, 5)
	if v := w.role.Snapshot().Secrets["jwt"].Previous; v != nil {
		t.Errorf("a revoked value is kept: %+v", v)
	}
}

// TestReadersTimeIsMonotonic: what readers have had of their refresh interval is reckoned by
// the monotonic clock, which nobody sets.
func TestReadersTimeIsMonotonic(t *testing.T) {
	t.Parallel()
	w := newWorld()
	prepare("db")(t, w)
	defer func() { w.stop() }()
	w.engine.Now = time.Now
	_, err := w.do(rotate())
	must(t, err)
	if since := w.role.shown["db"].since; !strings.Contains(since.String(), " m=") {
		t.Errorf("since %s, by the wall clock only", since)
	}
}

// watchAnswers checks that the engine begins to retire a value only after readers have had a
// refresh interval in which its process could answer them, unless they do not read it, it
// works no more, its end was decided before, or starts in a row have made it long enough.
func (w *world) watchAnswers(old, next *State) {
	op := next.InFlight
	if op == nil || op.Kind != KindRetire || op.Trigger == TriggerManual || old.InFlight != nil {
		return
	}
	for _, name := range op.Secrets {
		secret := old.Secrets[name]
		previous := secret.Previous
		if secret.Type == "single" || secret.Type == "hidden" || previous.revoked() || !previous.undecided() || previous.Prolonged.By >= next.Policy.Overlap || w.login(previous.Material) != nil {
			continue
		}
		if had := w.clock.Sub(later(w.began, previous.Replaced)); had < next.Policy.RefreshInterval {
			w.breakf("the overlap of %s ends, and readers had %s to read what replaced it", name, had)
		}
	}
}

// watchUndone checks that an operation that is undone leaves readers the previous login that
// they had no refresh interval to replace, unless its end was decided before.
func (w *world) watchUndone(s Secret) {
	previous := s.Previous
	if previous == nil || previous.final() || previous.Prolonged.By >= w.stored.Policy.Overlap {
		return
	}
	id, had := identity(previous.Material), w.clock.Sub(later(w.began, previous.Replaced))
	switch {
	case w.login(previous.Material) == nil, w.adrift[id]:
	case had >= w.stored.Policy.RefreshInterval:
		w.gone[id] = true // and not given back later
	case !w.gone[id]:
		w.breakf("%s is undone, and readers had %s to read what replaced the login that this takes", s.Name, had)
	}
}
