package rotation

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// reader is who is late in the world.
const reader = "instance-1, which read version 1"

// dependents is who has not read what replaced a value. It is known to every process.
func (w *world) dependents(_ *Role, s *Secret) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Previous != nil && w.late[identity(s.Previous.Material)] {
		return []string{reader}
	}
	return nil
}

// limitAfter is how long after its overlap a value is kept at most that somebody needs.
const limitAfter = time.Minute

// limited is the same with such a limit.
func limited(p func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		p(t, w)
		must(t, w.role.change(t.Context(), nil, func(s *State) error {
			s.Policy.OverlapLimit = s.Policy.Overlap + limitAfter
			return nil
		}))
	}
}

// unread is limited with readers who still have the previous values.
func unread(p func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		limited(p)(t, w)
		for _, secret := range w.role.Snapshot().Secrets {
			w.late[identity(secret.Previous.Material)] = true
		}
	}
}

// caughtUp is the same after a wait, at whose end they have read.
func caughtUp(p func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		p(t, w)
		_, err := w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule})
		must(t, err)
		w.advance(drainPause)
		clear(w.late)
	}
}

// retirements are the records of retirements, oldest first.
func (w *world) retirements(t *testing.T) (found []Record) {
	t.Helper()
	_, entries, err := w.role.Entries(t.Context())
	must(t, err)
	for _, e := range entries {
		rec, err := e.Decode()
		must(t, err)
		if rec.Kind == KindRetire {
			found = append(found, rec)
		}
	}
	return found
}

// live has the time go on, a second after the other, on another node each time, until the
// secret has no previous value, and returns how long its overlap was. Each second, does
// says what else happens.
func (w *world) live(t *testing.T, name string, does func(age time.Duration)) time.Duration {
	t.Helper()
	replaced := w.role.Snapshot().Secrets[name].Previous.Replaced
	for {
		age := w.now().Sub(replaced)
		if does != nil {
			does(age)
		}
		if !w.idle(t, 0, 3) {
			t.Fatal("the wait keeps the role busy")
		}
		s := w.role.Snapshot()
		if s.Secrets[name].Previous == nil {
			return age
		}
		if s.InFlight != nil || s.Secrets[name].PreviousAt(w.now()) == nil {
			t.Fatalf("after %s the previous value is not offered: %+v", age, s.Secrets[name].Previous)
		}
		w.stop()
		w.resume(t)
		w.advance(time.Second)
	}
}

// TestOverlapGoesOnForReaders has readers read some time after the overlap, or never.
func TestOverlapGoesOnForReaders(t *testing.T) {
	t.Parallel()
	const overlap = 24 * time.Hour
	for name, c := range map[string]struct {
		prepare          func(*testing.T, *world)
		read             time.Duration // after which they have read
		earliest, latest time.Duration
		needed           bool
	}{
		"all have read":       {limited(rotated(overlap-10*time.Second, "jwt")), 0, overlap, overlap, false},
		"one reads":           {unread(rotated(overlap-10*time.Second, "jwt")), overlap + 20*time.Second, overlap + 20*time.Second, overlap + 20*time.Second + drainPause, false},
		"one reads just then": {unread(rotated(overlap-10*time.Second, "jwt")), overlap - lookAhead, overlap, overlap, false},
		"one never reads":     {unread(rotated(overlap-10*time.Second, "jwt")), 2 * overlap, overlap + limitAfter, overlap + limitAfter, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			c.prepare(t, w)
			defer func() { w.stop() }()
			took := w.live(t, "jwt", func(age time.Duration) {
				if age >= c.read {
					clear(w.late)
				}
				if age < c.earliest && w.role.Snapshot().Secrets["jwt"].PreviousAt(w.now()) == nil {
					t.Fatalf("after %s the value is not valid until the engine looks", age)
				}
				waits := w.role.Snapshot().Waits(w.now())
				if should := age > overlap && age < c.earliest; should && (len(waits) != 1 || !slices.Equal(waits[0].For, []string{reader}) || waits[0].Secret != "jwt" || waits[0].Version != 1) {
					t.Fatalf("after %s it waits for %v", age, waits)
				}
			})
			if took < c.earliest || took > c.latest {
				t.Errorf("the overlap was %s, want from %s to %s", took, c.earliest, c.latest)
			}
			records := w.retirements(t)
			if len(records) != 1 || slices.Contains(records[0].Results[0].NeededBy, reader) != c.needed || strings.Contains(fmt.Sprint(records[0].Issues), reader) != c.needed {
				t.Errorf("the records are %+v", records)
			}
			w.settled(t)
		})
	}
}

// TestOverlapWithoutALimit ends whoever has not read.
func TestOverlapWithoutALimit(t *testing.T) {
	t.Parallel()
	w := newWorld()
	unread(rotated(24*time.Hour-10*time.Second, "jwt"))(t, w)
	defer func() { w.stop() }()
	must(t, w.role.change(t.Context(), nil, func(s *State) error { s.Policy.OverlapLimit = 0; return nil }))
	if took := w.live(t, "jwt", nil); took != 24*time.Hour {
		t.Errorf("the overlap was %s", took)
	}
}

// TestALimitThatIsTakenBack ends a wait, and the record says for whom it was.
func TestALimitThatIsTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld()
	unread(rotated(24*time.Hour-lookAhead, "jwt"))(t, w)
	defer func() { w.stop() }()
	took := w.live(t, "jwt", func(age time.Duration) {
		if age == 24*time.Hour+3*time.Second {
			must(t, w.role.change(t.Context(), nil, func(s *State) error { s.Policy.OverlapLimit = 0; return nil }))
		}
	})
	if took > 24*time.Hour+drainPause {
		t.Errorf("the overlap was %s", took)
	}
	if rec := w.retirements(t)[0]; !slices.Equal(rec.Results[0].NeededBy, []string{reader}) {
		t.Errorf("the record is %+v", rec)
	}
}

// TestSecretsWaitEachForItself has a reader of one secret only, and sessions of another.
func TestSecretsWaitEachForItself(t *testing.T) {
	t.Parallel()
	w := newWorld()
	limited(rotated(24*time.Hour-10*time.Second, "cookie", "jwt", "strict"))(t, w)
	defer func() { w.stop() }()
	secrets := w.role.Snapshot().Secrets
	w.late[identity(secrets["cookie"].Previous.Material)] = true
	w.open[secrets["strict"].Previous.Material["password"]] = 1
	if took := w.live(t, "jwt", nil); took != 24*time.Hour {
		t.Errorf("the overlap of the key was %s", took)
	}
	waits := w.role.Snapshot().Waits(w.now())
	if len(waits) != 2 || !slices.Equal(waits[0].For, []string{reader}) || !slices.Equal(waits[1].For, []string{openSessions}) {
		t.Errorf("it waits for %+v", waits)
	}
	if took := w.live(t, "strict", nil); took != 24*time.Hour+limitAfter {
		t.Errorf("the overlap of the login was %s", took)
	}
	records := w.retirements(t)
	if last := records[len(records)-1]; !strings.Contains(fmt.Sprint(last.Issues), "the engine terminated: 1") || len(w.open) > 0 {
		t.Errorf("at the limit, the record says %q, and there are %d sessions", last.Issues, len(w.open))
	}
	w.settled(t)
}

// TestAServerThatDoesNotAnswerIsWaitedFor within the limit, and holds up no other secret.
func TestAServerThatDoesNotAnswerIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld()
	unread(rotated(24*time.Hour-lookAhead, "jwt", "strict"))(t, w)
	defer func() { w.stop() }()
	delete(w.late, identity(w.role.Snapshot().Secrets["strict"].Previous.Material))
	asked := 0
	w.hooks = map[string]func(){"strict.look": func() {
		asked++
		w.advance(stepTimeout)
		for _, secret := range w.stored.Secrets {
			if end := secret.CutOver().Add(24*time.Hour + limitAfter); !secret.Previous.RetireTime.Equal(end) || !secret.Previous.LookTime.Before(end) {
				t.Errorf("while the server was asked, %s was valid until %s, want %s; the next look is at %s", secret.Name, secret.Previous.RetireTime, end, secret.Previous.LookTime)
			}
		}
	}}
	w.always["strict.look"] = fault{how: forever}
	_, err := w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule})
	must(t, err)
	waits := w.role.Snapshot().Waits(w.now().Add(-stepTimeout))
	if len(waits) != 2 || !strings.Contains(strings.Join(waits[1].For, ""), "could not count (strict.look: injected fault)") || asked != 1 {
		t.Errorf("it waits for %+v", waits)
	}
}

// TestOverlapLimitHoldsUpNoRotation has a rotation due before the limit.
func TestOverlapLimitHoldsUpNoRotation(t *testing.T) {
	t.Parallel()
	w := newWorld()
	unread(rotated(24*time.Hour-10*time.Second, "jwt"))(t, w)
	defer func() { w.stop() }()
	end := w.role.Snapshot().Secrets["jwt"].Previous.RetireTime
	for _, after := range []time.Duration{30 * time.Second, 0, -2 * time.Second} {
		c := w.clone()
		c.resume(t)
		due := end.Add(after)
		must(t, c.role.change(t.Context(), nil, func(s *State) error { s.NextRotation = due; return nil }))
		c.idle(t, time.Minute, 20)
		if s := c.role.Snapshot(); s.Version != 3 || !s.LastRotation.Equal(later(due, end)) {
			t.Errorf("a rotation that is due %s after the overlap made version %d at %s", after, s.Version, s.LastRotation)
		}
		c.settled(t)
		c.stop()
	}
}

// TestALookThatFailsIsTriedAgain has storage fail when the overlap is put off.
func TestALookThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld()
	unread(rotated(24*time.Hour-lookAhead, "jwt"))(t, w)
	defer func() { w.stop() }()
	w.fail("save", 0, fault{how: once})
	w.idle(t, 20*time.Second, 10)
	if len(w.role.Snapshot().Waits(w.now())) != 1 {
		t.Errorf("it does not wait: %+v", w.role.Snapshot().Secrets["jwt"].Previous)
	}
}

// retire is a retirement by hand.
func retire(force bool, secrets ...string) Request {
	return Request{Kind: KindRetire, Trigger: TriggerManual, Secrets: secrets, RequestID: "retire", Reason: "test", Force: force}
}

// TestRetireByHand ends overlaps, and cuts nobody off unless that is forced.
func TestRetireByHand(t *testing.T) {
	t.Parallel()
	w := newWorld()
	used(unread(rotated(time.Hour, "cookie", "jwt", "strict")))(t, w)
	defer func() { w.stop() }()
	delete(w.late, identity(w.role.Snapshot().Secrets["cookie"].Previous.Material))
	before := w.role.Snapshot()
	for range 3 {
		_, err := w.do(retire(false))
		for _, part := range []string{"force: ", "secret jwt: " + reader, "secret strict: " + reader + ", " + openSessions + ": 2", "force=true"} {
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "secret cookie") {
				t.Errorf("%v, want %q", err, part)
			}
		}
	}
	if after := w.role.Snapshot(); !reflect.DeepEqual(before.State, after.State) || !after.NotBefore.IsZero() {
		t.Errorf("the refusal changed %+v, and puts off everything until %s", after.State, after.NotBefore)
	}
	rec, err := w.do(retire(false, "cookie"))
	must(t, err)
	if rec.Outcome != OutcomeCompleted || len(rec.Results) != 1 || rec.Results[0].NeededBy != nil || w.role.Snapshot().Secrets["jwt"].Previous == nil {
		t.Errorf("what nobody needs: %+v", rec)
	}
	w.advance(time.Second)
	forced := retire(true)
	forced.RequestID = "force"
	rec, err = w.do(forced)
	must(t, err)
	for i, want := range [][]string{{reader}, {reader, openSessions + ": 2"}} {
		if !slices.Equal(rec.Results[i].NeededBy, want) {
			t.Errorf("the record says that %v needed it, want %v", rec.Results[i].NeededBy, want)
		}
	}
	if text := fmt.Sprint(rec.Issues); !rec.Force || strings.Count(text, "was retired by force") != 2 || strings.Contains(text, "had waited") {
		t.Errorf("the record says %q", text)
	}
	for _, secrets := range [][]string{nil, {"cookie"}} {
		again := retire(true, secrets...)
		again.RequestID = "again"
		if _, err := w.do(again); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "previous value to retire") {
			t.Errorf("nothing to retire: %v", err)
		}
	}
	w.settled(t)
}

// TestRetireByHandDuringAWait ends it, with a value that is not offered any more before
// its target refuses it.
func TestRetireByHandDuringAWait(t *testing.T) {
	t.Parallel()
	w := newWorld()
	unread(rotated(24*time.Hour-lookAhead, "db"))(t, w)
	defer func() { w.stop() }()
	_, err := w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule})
	must(t, err)
	w.fail("db.retire", 0, fault{how: once})
	if _, err := w.do(retire(true)); err == nil {
		t.Fatal("the retirement did not fail")
	}
	if s := w.role.Snapshot(); s.Secrets["db"].PreviousAt(w.now()) != nil || len(s.Waits(w.now())) > 0 {
		t.Errorf("after a failure: %+v", s.Secrets["db"].Previous)
	}
	w.idle(t, time.Hour, 5)
	last := w.retirements(t)
	if w.role.Snapshot().Secrets["db"].Previous != nil || !last[len(last)-1].Results[0].Forced {
		t.Errorf("it is not tried again, or not by force: %+v", last)
	}
	w.settled(t)
}

// TestRetireByHandWhatIsAskedAbout gives a key to nobody from then on, and retires it once
// readers have heard of that and an application was asked.
func TestRetireByHandWhatIsAskedAbout(t *testing.T) {
	t.Parallel()
	for _, secrets := range [][]string{{"jwt"}, {"jwt", "cookie"}} {
		w := newWorld()
		asking(unread(rotated(time.Hour, secrets...)))(t, w)
		rec, err := w.do(retire(true))
		must(t, err)
		if len(rec.Results) != len(secrets)-1 || rec.Outcome != OutcomeCompleted || slices.Contains(rec.Secrets, "jwt") || !strings.Contains(fmt.Sprint(rec.Issues), "secret jwt: readers no longer get the previous value") {
			t.Errorf("the record is %+v", rec)
		}
		s := w.role.Snapshot()
		if jwt := s.Secrets["jwt"]; jwt.Previous == nil || jwt.PreviousAt(w.now()) != nil || len(s.Waits(w.now())) > 0 || w.asked["1/jwt"] {
			t.Errorf("after the request: %+v", jwt.Previous)
		}
		again := retire(false)
		again.RequestID = "again"
		if rec, err := w.do(again); err != nil || rec.Outcome != OutcomeCompleted {
			t.Errorf("asked for again: %+v, %v", rec, err)
		}
		w.stop()
		w.boot(t)
		w.idle(t, s.Resolved.RefreshInterval, 5)
		last := w.retirements(t)
		if rec := last[len(last)-1]; !w.asked["1/jwt"] || w.role.Snapshot().Secrets["jwt"].Previous != nil || !rec.Results[0].Forced || !slices.Equal(rec.Results[0].NeededBy, []string{reader}) {
			t.Errorf("the retirement is %+v", rec)
		}
		w.settled(t)
		w.stop()
	}
}

// TestRetireByHandBeforeARollback names the check that may need the values.
func TestRetireByHandBeforeARollback(t *testing.T) {
	t.Parallel()
	w := newWorld()
	watched(false, prepare("db"))(t, w)
	defer func() { w.stop() }()
	_, err := w.do(rotate())
	must(t, err)
	if _, err := w.do(retire(false)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "secret db: the rollback that follows if check/health fails. ") {
		t.Errorf("while the application is watched: %v", err)
	}
	w.idle(t, time.Hour, 20)
	_, err = w.do(retire(false))
	must(t, err)
}

// TestFew keeps some of many names, and something of long ones.
func TestFew(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range maxNames + 7 {
		names = append(names, fmt.Sprint(i))
	}
	names[0] = strings.Repeat("ä", maxName)
	got := few(names)
	if len(got) != maxNames+1 || got[maxNames] != "and 7 more" || got[0] != strings.Repeat("ä", maxName/2)+"…" || got[9] != "9" {
		t.Errorf("of many names it keeps %q", got)
	}
	if got := few(names[1:3]); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("of two names it keeps %q", got)
	}
}

// TestALookThatAShutdownInterruptsDecidesNothing ends the process while the server of a
// login is asked.
func TestALookThatAShutdownInterruptsDecidesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	limited(rotated(24*time.Hour-lookAhead, "strict"))(t, w)
	w.hooks = map[string]func(){"strict.look": w.stop}
	w.fail("strict.look", 0, fault{how: once})
	_, err := w.do(Request{Kind: KindRetire, Trigger: TriggerSchedule})
	if previous := w.stored.Secrets["strict"].Previous; !errors.Is(err, errInterrupted) || !previous.undecided() || previous.WaitsFor != nil {
		t.Errorf("%v, and it stored %+v", err, previous)
	}
	w.hooks = nil
	w.boot(t)
	defer w.stop()
	if _, err := w.do(retire(false)); err != nil {
		t.Errorf("the next process: %v", err)
	}
}
