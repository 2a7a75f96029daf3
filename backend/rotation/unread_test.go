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
// works no more, or its end was decided before.
func (w *world) watchAnswers(old, next *State) {
	op := next.InFlight
	if op == nil || op.Kind != KindRetire || op.Trigger == TriggerManual || old.InFlight != nil {
		return
	}
	for _, name := range op.Secrets {
		secret := old.Secrets[name]
		previous := secret.Previous
		if secret.Type == "single" || secret.Type == "hidden" || previous.revoked() || !previous.undecided() || w.login(previous.Material) != nil {
			continue
		}
		if had := w.clock.Sub(later(w.began, previous.Replaced)); had < next.Policy.RefreshInterval {
			w.breakf("the overlap of %s ends, and readers had %s to read what replaced it", name, had)
		}
	}
}
