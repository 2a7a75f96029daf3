package rotation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestEverythingAtOnce has many callers do everything to one role. Whatever they
// get, every reader sees one version of all secrets, and versions only grow.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	w := made(t, "app", "db", "jwt")
	start := w.role.Snapshot().Version
	var writers, readers sync.WaitGroup
	var mu sync.Mutex
	committed := map[int]string{}
	done := make(chan struct{})
	for range 8 {
		readers.Go(func() {
			for last := 0; ; {
				select {
				case <-done:
					return
				default:
					last = w.readOnce(t, last)
				}
			}
		})
	}
	requests := []Request{
		rotate(), rotate("db"), rotate("app", "jwt"),
		{Kind: KindRollback, Trigger: TriggerManual},
		{Kind: KindRetire, Trigger: TriggerSchedule},
		{Kind: KindRetire, Trigger: TriggerManual, Force: true},
		{Kind: KindRecover, Trigger: TriggerSchedule},
	}
	for i := range 24 {
		writers.Go(func() {
			for n := range 20 {
				rec, err := w.do(requests[(i+n)%len(requests)])
				w.advance(time.Hour)
				if err != nil && !errors.Is(err, ErrInFlight) && !errors.Is(err, ErrInvalid) {
					t.Errorf("%v", err)
				}
				if err != nil || rec.Outcome != OutcomeCompleted || rec.Kind == KindRetire {
					continue
				}
				mu.Lock()
				if other, ok := committed[rec.Version]; ok && other != rec.ID {
					t.Errorf("version %d was given to %s and %s", rec.Version, other, rec.ID)
				}
				committed[rec.Version] = rec.ID
				mu.Unlock()
			}
		})
	}
	first := w.role.Snapshot().Latest().ID
	for i := range 4 {
		writers.Go(func() {
			for n := range 20 {
				if err := w.role.Annotate(t.Context(), w.noted(first, fmt.Sprint(i, n)), func() error { return nil }); err != nil && !errors.Is(err, ErrInvalid) {
					t.Error(err)
				}
				if err := w.role.change(t.Context(), nil, func(s *State) error { s.Policy.MaxRetries = i*20 + n + 1; return nil }); err != nil {
					t.Error(err)
				}
				_ = w.role.Refresh()
				_, _, _ = w.role.Entries(t.Context())
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	if v := w.role.Snapshot().Version; v != start+len(committed) || len(committed) == 0 {
		t.Errorf("version %d after %d operations from %d", v, len(committed), start)
	}
	w.settled(t)
	found, err := w.role.Find(t.Context(), first)
	must(t, err)
	if len(found.Notes) != maxNotes {
		t.Errorf("of 80 notes there are %d, and %d are allowed", len(found.Notes), maxNotes)
	}
	h, entries, err := w.role.Entries(t.Context())
	must(t, err)
	must(t, h.VerifyChain(entries))
}

// TestNoteInDoubt adds a note again for which storage did not answer, whether it has landed.
func TestNoteInDoubt(t *testing.T) {
	t.Parallel()
	for _, landed := range []bool{false, true} {
		w := made(t, "jwt")
		about := w.role.Snapshot().Latest().ID
		add := func() error {
			return w.role.Annotate(t.Context(), w.noted(about, "seen"), func() error { return nil })
		}
		w.fail("save", 0, fault{how: once, landed: landed})
		if err := add(); !errors.Is(err, ErrStorage) {
			t.Errorf("landed %t: the note in doubt is answered with %v", landed, err)
		}
		must(t, add())
		found, err := w.role.Find(t.Context(), about)
		must(t, err)
		if len(found.Notes) != 1 {
			t.Errorf("landed %t: there are %d notes, want one", landed, len(found.Notes))
		}
		h, entries, err := w.role.Entries(t.Context())
		must(t, err)
		must(t, h.VerifyChain(entries))
		w.settled(t)
	}
}

// noted is a note about the record with that id.
func (w *world) noted(about, text string) *Record {
	op := w.engine.NewOperation(KindNote, TriggerManual)
	op.RequestID = "request-" + op.ID
	return &Record{Operation: op, Outcome: OutcomeCompleted, Note: &Note{About: about, Kind: NoteResolution, Text: text}}
}

// readOnce does what readers do and returns the version it saw.
func (w *world) readOnce(t *testing.T, last int) int {
	t.Helper()
	s := w.role.Snapshot()
	if s.Version < last {
		t.Errorf("the version went from %d to %d", last, s.Version)
	}
	for name, secret := range s.Secrets {
		if secret.Current == nil || secret.Current.Version > s.Version {
			t.Errorf("%s of version %d in version %d", name, secret.Current.Version, s.Version)
		}
	}
	now := w.now()
	s.NextAction(now)
	if s.TTL(now) < 0 {
		t.Error("negative ttl")
	}
	if run := w.role.Running(); run != nil {
		run.Operation()
		run.Progress()
	}
	return s.Version
}

// The same request, delivered many times at once, is one rotation.
func TestOneRequestIsOneRotation(t *testing.T) {
	t.Parallel()
	w := made(t, "db", "jwt")
	var all sync.WaitGroup
	req := rotate()
	req.RequestID = "request"
	for range 32 {
		all.Go(func() {
			if rec, err := w.do(req); err != nil || rec.Version != 3 {
				t.Errorf("version %d, %v", rec.Version, err)
			}
		})
	}
	all.Wait()
	w.settled(t)
}

// A caller that goes away takes nothing with it.
func TestARunOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	w := made(t, "db")
	reached, release := w.holdAt("db.set")
	ctx, leave := context.WithCancel(t.Context())
	run, err := w.role.Start(ctx, rotate())
	must(t, err)
	arrive(t, reached, run)
	leave()
	release()
	<-run.Done()
	if rec, err := run.Result(); err != nil || rec.Version != 2 {
		t.Errorf("%+v, %v", rec, err)
	}
}
