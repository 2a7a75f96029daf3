package rotation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// concealed models keys of which only the hash is kept.
type concealed struct{ key }

func (d *concealed) Conceal(v Material) Material { return Material{"secret": hashOf(v["secret"])} }

func hashOf(secret string) string { return "hash of " + secret }

// hide says of a secret of that type that its values are shown once.
func hide(req Request) Request {
	req.Added.ShownOnce = req.Added.Type == "hidden"
	return req
}

// given notes what the one who waited for a run was shown.
func (w *world) given(run *Run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range run.Shown() {
		w.known[hashOf(v["secret"])] = true
	}
}

// watchHandover checks that what was just committed is given to somebody who waits.
func (w *world) watchHandover(op *Operation, now *Secret) {
	if !now.ShownOnce || !op.shows() {
		return
	}
	run := w.role.Running()
	if run == nil || !run.handover.relied || now.Current.Material["secret"] != hashOf(run.handover.shown[now.Name]["secret"]) {
		w.breakf("%s became current, and nobody is given it", now.Name)
	}
}

func (w *world) currentKnown() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[w.role.Snapshot().Secrets["api"].Current.Material["secret"]]
}

// TestShownOnce is given each value, and finds none of them in storage.
func TestShownOnce(t *testing.T) {
	t.Parallel()
	w := newWorld()
	rotated(0, "api", "db")(t, w)
	defer w.stop()
	if len(w.known) != 2 || !w.currentKnown() {
		t.Errorf("%d values were shown", len(w.known))
	}
	for hash := range w.known {
		if plain := strings.TrimPrefix(hash, hashOf("")); strings.Contains(strings.ReplaceAll(string(w.state), hash, ""), plain+`"`) {
			t.Error("a value that was shown is in storage")
		}
	}
	_, err := w.do(Request{Kind: KindRollback, Trigger: TriggerManual})
	must(t, err)
	if !w.currentKnown() {
		t.Error("what was rolled back to is not what was shown")
	}
}

// TestNobodyIsGivenIt ends the wait at each call that comes before the commit.
func TestNobodyIsGivenIt(t *testing.T) {
	t.Parallel()
	for _, last := range []string{"api.create", "db.set", "api.test"} {
		t.Run(last, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			prepare("api", "db")(t, w)
			defer w.stop()
			before := w.role.Snapshot().Version
			ctx, leave := context.WithCancel(t.Context())
			left := make(chan struct{})
			w.hooks = map[string]func(){last: func() { leave(); <-left }}
			run, err := w.role.Start(t.Context(), Request{Kind: KindRotate, Trigger: TriggerManual, RequestID: "r", Waits: true})
			must(t, err)
			if run.Wait(ctx) {
				t.Fatal("it ended")
			}
			close(left)
			<-run.Done()
			if _, err := run.Result(); !errors.Is(err, errUnreceived) || run.Shown() != nil {
				t.Errorf("got %v", err)
			}
			if s := w.role.Snapshot(); s.Version != before || !strings.Contains(s.LastError, "has ended, and the engine does not store") {
				t.Errorf("version %d, last error %q", s.Version, s.LastError)
			}
			w.settled(t)
		})
	}
}

// TestWaitStaysForTheCommit ends the wait during the commit.
func TestWaitStaysForTheCommit(t *testing.T) {
	t.Parallel()
	w := newWorld()
	prepare("api")(t, w)
	defer w.stop()
	ctx, leave := context.WithCancel(t.Context())
	w.hooks = map[string]func(){"save": func() {
		if run := w.role.Running(); run != nil && run.handover.relied {
			leave()
		}
	}}
	run, err := w.role.Start(t.Context(), Request{Kind: KindRotate, Trigger: TriggerManual, RequestID: "r", Waits: true})
	must(t, err)
	run.Wait(ctx)
	if len(run.Shown()) != 1 {
		t.Error("who stayed for the commit is not given the value")
	}
	<-run.Done()
	w.given(run)
	if !w.currentKnown() {
		t.Error("the current value is another one")
	}
}

// ways are those in which a key becomes current and nobody is given it.
var ways = map[string]func(w *world){
	"the process dies before it answers": func(w *world) { w.fail("append", 0, fault{how: death}) },
	"the commit lands and is not answered": func(w *world) {
		w.fail("save", 1, fault{landed: true, how: once})
		w.always["load"] = fault{how: forever}
	},
	"storage fails right after the commit": func(w *world) {
		w.hooks = map[string]func(){"append": func() { w.always["save"] = fault{how: forever} }}
	},
	"storage takes no write and is not answered": func(w *world) {
		w.hooks = map[string]func(){"append": func() { w.always["load"], w.always["save"] = fault{how: forever}, fault{how: forever} }}
	},
}

// lose has a key become current that nobody is given.
func (w *world) lose(t *testing.T, how func(*world)) {
	t.Helper()
	version := w.role.Snapshot().Version
	must(t, w.role.flush(t.Context()))
	how(w)
	req := rotate()
	req.Waits = true
	run, err := w.role.Start(t.Context(), req)
	must(t, err)
	for run.Wait(t.Context()); w.role.Busy(); {
		time.Sleep(time.Millisecond)
	}
	w.given(run)
	w.hooks = nil
	w.heal()
	if w.isDead() {
		w.boot(t)
	}
	w.idle(t, time.Minute, 5)
	if s := w.role.Snapshot(); s.Version != version+1 || w.currentKnown() || !s.Secrets["api"].Current.Unreceived {
		t.Fatalf("version %d is known: %t", s.Version, w.currentKnown())
	}
}

// TestKeyThatNobodyWasGiven rotates again after a key was lost, as people and scripts do,
// or rolls back first: the key in use keeps an overlap.
func TestKeyThatNobodyWasGiven(t *testing.T) {
	t.Parallel()
	for name, how := range ways {
		for _, back := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/roll back %t", name, back), func(t *testing.T) {
				t.Parallel()
				w := made(t, "api")
				inUse := w.role.Snapshot().Secrets["api"].Current
				w.lose(t, how)
				w.lose(t, how)
				w.advance(time.Hour)
				if back {
					_, err := w.do(Request{Kind: KindRollback, Trigger: TriggerManual})
					must(t, err)
				}
				rec, err := w.do(rotate())
				must(t, err)
				s := w.role.Snapshot().Secrets["api"]
				if previous := s.PreviousAt(w.now()); previous == nil || !previous.Material.Equal(inUse.Material) || previous.RetireTime.Sub(w.now()) != 24*time.Hour {
					t.Errorf("the key in use is not valid for an overlap: %+v", previous)
				}
				if !w.currentKnown() || s.Current.Unreceived {
					t.Error("the current key is not the one that was given")
				}
				if told := strings.Contains(strings.Join(rec.Issues, "\n"), "nobody was given version 3, so this rotation drops it; version 1, which is in use"); told == back {
					t.Errorf("the record says %q", rec.Issues)
				}
				w.settled(t)
				next, err := w.do(rotate())
				must(t, err)
				if s := w.role.Snapshot().Secrets["api"]; s.Previous.Version != rec.Version || len(next.Issues) == 0 {
					t.Errorf("after the rotation that follows, version %d is the previous one: %q", s.Previous.Version, next.Issues)
				}
			})
		}
	}
}

// TestKeyInUseDoesNotComeBack ends the overlap of the key before one that nobody was given:
// that is not valid again.
func TestKeyInUseDoesNotComeBack(t *testing.T) {
	t.Parallel()
	w := made(t, "api")
	inUse := w.role.Snapshot().Secrets["api"].Current
	w.lose(t, ways["the process dies before it answers"])
	w.advance(24 * time.Hour)
	_, err := w.do(rotate())
	must(t, err)
	if s := w.role.Snapshot().Secrets["api"]; s.Previous.Material.Equal(inUse.Material) || !w.currentKnown() {
		t.Errorf("version %d is the previous one", s.Previous.Version)
	}
	w.settled(t)
}

// TestScheduleLeavesHiddenAlone has nobody who would be given a value.
func TestScheduleLeavesHiddenAlone(t *testing.T) {
	t.Parallel()
	w := newWorld()
	prepare("api")(t, w)
	defer w.stop()
	if s := w.role.Snapshot(); s.RotatesItself() || s.NextAction(w.now()).Kind != "" || s.Overdue(w.now().Add(1000*24*time.Hour)) {
		t.Errorf("next is %+v", s.NextAction(w.now()))
	}
	w.advance(1000 * 24 * time.Hour)
	_, err := w.do(hide(Request{Kind: KindCreate, Trigger: TriggerManual, RequestID: "db", Added: &Secret{Name: "db", Type: "alternating", Config: []byte(`{}`)}}))
	must(t, err)
	s := w.role.Snapshot()
	if due := s.NextAction(w.now()).At; due.Sub(w.now()) < 89*24*time.Hour {
		t.Errorf("a secret that was added is rotated at %s", due)
	}
	w.advance(90 * 24 * time.Hour)
	w.idle(t, 0, 3)
	after := w.role.Snapshot()
	if after.currentVersion("api") != s.currentVersion("api") || after.currentVersion("db") != s.Version+1 {
		t.Errorf("the schedule rotated %s from %d to %d, and db to %d", "api", s.currentVersion("api"), after.currentVersion("api"), after.currentVersion("db"))
	}
	if due := after.NextAction(w.now().Add(25 * time.Hour)); after.NextRotation.Sub(w.now()) < 89*24*time.Hour {
		t.Errorf("it has not moved: %+v, %s", due, after.NextRotation)
	}
	w.settled(t)
}
