package rotation

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// drainer models alternating users whose sessions outlive their passwords.
type drainer struct {
	alternating
	end OverlapEnd
}

// drainTimeout is how long they are waited for.
const drainTimeout = time.Minute

func (d *drainer) OverlapEnd(Secret) (OverlapEnd, time.Duration) { return d.end, drainTimeout }

func (d *drainer) Sessions(_ context.Context, s Secret) (n int, err error) {
	err = d.w.call(s.Name+".look", func() error { n = d.w.open[s.Previous.Material["password"]]; return nil })
	return n, err
}

func (d *drainer) Terminate(ctx context.Context, s Secret, fence Fence) (n int, err error) {
	err = d.w.fenced(ctx, fence, s.Name+".terminate", func() error {
		password := s.Previous.Material["password"]
		n = d.w.open[password]
		delete(d.w.open, password)
		return nil
	})
	return n, err
}

func (w *world) drivers() map[string]Driver {
	return map[string]Driver{
		"alternating": &alternating{w}, "single": &single{w}, "jwt": &key{w},
		"patient": &drainer{alternating{w}, WaitAtEnd}, "strict": &drainer{alternating{w}, TerminateAtEnd},
		"hidden": &concealed{key{w}},
	}
}

// used is the same with sessions of every login.
func used(p func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		p(t, w)
		for _, secret := range w.role.Snapshot().Secrets {
			for _, v := range []*Value{secret.Current, secret.Previous} {
				if v != nil {
					w.open[v.Material["password"]] = 2
				}
			}
		}
	}
}

// drained is the same after a wait, at whose end there are no sessions.
func drained(p func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		p(t, w)
		_, err := w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule})
		must(t, err)
		w.advance(drainPause)
		clear(w.open)
	}
}

// watchDrain checks that an overlap is only ever extended for those who need the
// value, for as long as is configured, and for readers of a process that has just begun;
// not once it was revoked; that only somebody who asks for it makes it shorter; and that a
// value whose users are to be terminated is not forgotten before they are.
func (w *world) watchDrain(s *State, old, next *Secret) {
	if old == nil || old.Previous == nil {
		return
	}
	was, is := old.Previous, next.Previous
	patient, drains := s.Policy.OverlapLimit > s.Policy.Overlap, old.Type == "patient"
	prolongs := is != nil && is.LookTime.IsZero() && w.clock.Sub(w.began) < s.Policy.RefreshInterval
	needed := prolongs || w.open[was.Material["password"]] > 0 && (patient || drains) || w.late[identity(was.Material)] && patient
	latest := was.Replaced.Add(max(s.Policy.Overlap, s.Policy.OverlapLimit))
	id := identity(was.Material)
	if prolongs {
		w.prolonged[id] = later(w.prolonged[id], w.clock.Add(s.Policy.RefreshInterval+time.Second))
	}
	end := later(was.Replaced.Add(s.Policy.Overlap), w.prolonged[id])
	latest = later(latest, end)
	if drains {
		latest = later(latest, end.Add(drainTimeout))
	}
	// A login that its server has accepted all along was never invalid to who has it.
	tooLate := w.clock.Sub(was.RetireTime) > lookBehind && (was.Material["username"] == "" || w.login(was.Material) != nil)
	if is != nil && is.Version == was.Version && !was.RetireTime.After(w.clock) && is.RetireTime.After(w.clock) && !prolongs && (tooLate || !was.LookTime.IsZero()) {
		w.breakf("%s was invalid from %s on, and is valid again", old.Name, was.RetireTime)
	}
	if is != nil && is.Version == was.Version && !is.LookTime.IsZero() && !slices.Equal(is.WaitsFor, was.WaitsFor) && !needed && !strings.Contains(strings.Join(is.WaitsFor, "; "), "could not count") {
		w.breakf("%s is waited for by %q, and nobody needs it", old.Name, is.WaitsFor)
	}
	switch {
	case is == nil || is.Version != was.Version:
		if is == nil && old.Type == "strict" && w.open[was.Material["password"]] > 0 {
			w.breakf("%s is forgotten while it is in use", old.Name)
		}
	case is.RetireTime.Equal(was.RetireTime):
	case !is.Replaced.Equal(was.Replaced), is.Prolonged.At.Before(was.Prolonged.At): // a clock that was ahead
	case is.RetireTime.Before(was.RetireTime):
		byHand := is.DrainUntil.Equal(is.Replaced)
		goesOn := w.late[identity(was.Material)] && patient && (s.NextRotation.IsZero() || s.NextRotation.After(w.clock))
		if !byHand && (!was.waits() || goesOn && is.LookTime.IsZero()) {
			w.breakf("the overlap of %s ends early, and nobody asked for that", old.Name)
		}
	case !was.RetireTime.After(was.Replaced):
		w.breakf("%s is revoked, and waited for", old.Name)
	case slices.Equal(is.WaitsFor, was.WaitsFor) && !is.LookTime.IsZero() && (old.Type == "patient" || old.Type == "strict"): // its server is asked
	case !needed && !strings.Contains(strings.Join(is.WaitsFor, "; "), "could not count"):
		w.breakf("%s is waited for, and nobody needs it", old.Name)
	case is.RetireTime.After(latest):
		w.breakf("%s is waited for until %s", old.Name, is.RetireTime)
	}
}

// TestWait waits for those who use a value, and then no longer.
func TestWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		leave time.Duration // when the sessions end
		want  string
	}{
		"until it is not in use": {20 * time.Second, "its sessions have ended, after the engine had waited"},
		"until the wait is over": {time.Hour, "sessions that go on until they end by themselves, after the engine had waited"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			used(rotated(24*time.Hour, "patient"))(t, w)
			defer w.stop()
			began := w.now()
			for w.role.Snapshot().Secrets["patient"].Previous != nil {
				if w.now().Sub(began) >= c.leave {
					clear(w.open)
				}
				if w.role.Snapshot().InFlight != nil || !w.idle(t, 0, 2) {
					t.Fatal("the wait keeps the role busy")
				}
				w.resume(t) // another node goes on
				w.advance(5 * time.Second)
			}
			if took := w.now().Sub(began); took > c.leave+2*drainPause && took > drainTimeout+drainPause {
				t.Errorf("it took %s", took)
			}
			if rec := w.role.Snapshot().Latest(); rec.Kind != KindRetire || !strings.Contains(strings.Join(rec.Issues, "\n"), c.want) {
				t.Errorf("the record says %q, want %q", rec.Issues, c.want)
			}
			w.settled(t)
		})
	}
}

// TestWaitHoldsUpNoRotation has a rotation due soon after the end of the overlap.
func TestWaitHoldsUpNoRotation(t *testing.T) {
	t.Parallel()
	w := newWorld()
	used(rotated(24*time.Hour, "patient"))(t, w)
	defer w.stop()
	due := w.now().Add(20 * time.Second).Truncate(time.Second)
	must(t, w.role.change(t.Context(), nil, func(s *State) error { s.NextRotation = due; return nil }))
	w.idle(t, 0, 2)
	if s := w.role.Snapshot(); !s.Secrets["patient"].Previous.DrainUntil.Equal(due) {
		t.Errorf("it is waited for until %s, and a rotation is due at %s", s.Secrets["patient"].Previous.DrainUntil, due)
	}
	w.idle(t, 21*time.Second, 10)
	if s := w.role.Snapshot(); !s.LastRotation.Equal(due) {
		t.Errorf("rotated at %s, want %s", s.LastRotation, due)
	}
}

// TestWhatMayBeRetiredIsNotWaitedFor has a retirement land whose target does not say
// so: the value, which may not work any more, is not offered to readers again.
func TestWhatMayBeRetiredIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld()
	used(rotated(24*time.Hour, "patient"))(t, w)
	defer w.stop()
	w.fail("patient.look", 0, fault{how: once})
	w.fail("patient.retire", 0, fault{how: once, landed: true})
	if _, err := w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule}); err == nil {
		t.Fatal("the retirement did not fail")
	}
	for w.role.Snapshot().Secrets["patient"].Previous != nil {
		if !w.idle(t, time.Minute, 5) {
			t.Fatal("it does not come to rest")
		}
	}
	w.settled(t)
}
