package rotation

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// long is a world whose role has rotated so many times, an hour apart.
func long(t *testing.T, rotations int) *world {
	t.Helper()
	w := newWorld()
	prepare("jwt")(t, w)
	for range rotations {
		w.rotateAt(t, time.Hour)
	}
	return w
}

// rotateAt rotates after that time, when nothing of before is open any more.
func (w *world) rotateAt(t *testing.T, after time.Duration) {
	t.Helper()
	w.advance(after)
	_, err := w.do(rotate())
	must(t, err)
	w.settled(t)
}

// prunes are the entries about pruning that are kept.
func (w *world) prunes(t *testing.T) (History, []Entry, []Record) {
	t.Helper()
	h, entries, err := w.role.Entries(t.Context())
	must(t, err)
	var found []Record
	for _, e := range entries {
		rec, err := e.Decode()
		must(t, err)
		if rec.Kind == KindPrune {
			found = append(found, rec)
		}
	}
	return h, entries, found
}

// TestHistoryIsPrunedToTheLimit keeps no less than the limit and little more, and
// what was dropped has its entries, which are few.
func TestHistoryIsPrunedToTheLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{3, 10, 100} {
		w := newWorld()
		w.settings.Retention = limit
		prepare("jwt")(t, w)
		most := limit + max(limit/10, leastSurplus) + 2
		for range 3 * most {
			w.rotateAt(t, time.Second)
			h, entries, prunes := w.prunes(t)
			if len(entries) > most || h.Base > 0 && len(entries) < limit || len(w.entries) > most+1 {
				t.Fatalf("limit %d: %+v, %d entries read, %d in storage", limit, h, len(entries), len(w.entries))
			}
			if len(prunes) > 1+most/leastSurplus || h.Base > 0 && len(prunes) == 0 {
				t.Errorf("limit %d: %d of %d entries are about pruning", limit, len(prunes), len(entries))
			}
		}
		w.stop()
	}
}

// TestPruningLeavesAnEntry that says what went, and each the next after the last.
func TestPruningLeavesAnEntry(t *testing.T) {
	t.Parallel()
	w := long(t, 20)
	defer w.stop()
	_, all, _ := w.prunes(t)
	w.settings.Retention = 10
	w.rotateAt(t, time.Hour)
	h, entries, prunes := w.prunes(t)
	if len(prunes) != 1 || entries[10].Sequence != len(all)+1 {
		t.Fatalf("%d entries about pruning, of %d", len(prunes), len(entries))
	}
	p, rec := prunes[0].Pruned, prunes[0]
	last, _ := all[h.Base-1].Decode()
	want := Pruned{Entries: h.Base, First: 1, Last: h.Base, HeadHash: all[h.Base-1].Hash, Oldest: startOf(all), Newest: last.Started}
	if *p != want || p.Entries != len(all)-10 || rec.Role != w.role.Name {
		t.Errorf("it says %+v, want %+v", *p, want)
	}
	if rec.Actor != (Actor{}) || rec.Version != 21 || !strings.Contains(rec.Reason, "10 entries") || !strings.Contains(rec.Issues[0], p.HeadHash) {
		t.Errorf("the record is %+v", rec)
	}
	for range 30 {
		w.rotateAt(t, time.Hour)
	}
	_, _, later := w.prunes(t)
	for i, rec := range later[1:] {
		if rec.Pruned.First != later[i].Pruned.Last+1 {
			t.Errorf("after %+v comes %+v", later[i].Pruned, rec.Pruned)
		}
	}
}

// startOf is when the first of entries started.
func startOf(entries []Entry) time.Time {
	rec, _ := entries[0].Decode()
	return rec.Started
}

// TestOldEntriesAreDropped by age, but not the newest ten, and not one by one.
func TestOldEntriesAreDropped(t *testing.T) {
	t.Parallel()
	w := long(t, 40)
	defer w.stop()
	w.settings.MaxAge = 24 * time.Hour
	w.rotateAt(t, time.Hour)
	h, entries, prunes := w.prunes(t)
	oldest, _ := entries[0].Decode()
	if len(prunes) != 1 || oldest.Started.Before(w.now().Add(-24*time.Hour)) || h.Base < 10 || !strings.Contains(prunes[0].Reason, "24h") {
		t.Errorf("%+v with %d prunes, the oldest of %s at %s", h, len(prunes), oldest.Started, w.now())
	}
	before := h.Base
	w.rotateAt(t, time.Hour)
	if h, _, _ := w.prunes(t); h.Base != before {
		t.Errorf("an hour later it is pruned again, up to %d", h.Base)
	}
	w.rotateAt(t, 300*24*time.Hour)
	if _, entries, prunes := w.prunes(t); len(entries) < leastKept || len(entries) > leastKept+2 || len(prunes) == 0 {
		t.Errorf("after a year %d entries are left, with %d prunes", len(entries), len(prunes))
	}
}

// TestNotesPushNothingOut: histories with a note for each operation, or with many for one,
// keep as many operations as those without, and the ten newest whatever their age.
func TestNotesPushNothingOut(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]Settings{
		"number": {Retention: 10},
		"age":    {MaxAge: 24 * time.Hour},
	} {
		w := long(t, 20)
		operations := func() (n, notes int) {
			h, entries, _ := w.prunes(t)
			must(t, h.VerifyChain(entries))
			for _, e := range entries {
				if rec, _ := e.Decode(); rec.Kind == KindNote {
					notes++
				}
			}
			if h.Notes != notes {
				t.Errorf("%s: %d notes are kept, and %d counted", name, notes, h.Notes)
			}
			return len(entries) - notes, notes
		}
		first := w.role.Snapshot().Latest().ID
		for i := range maxNotes {
			must(t, w.role.Annotate(t.Context(), w.noted(first, fmt.Sprint(i)), func() error { return nil }))
		}
		before, _ := operations()
		w.settings.Retention, w.settings.MaxAge = settings.Retention, settings.MaxAge
		if settings.MaxAge > 0 {
			w.advance(300 * 24 * time.Hour)
		}
		w.rotateAt(t, time.Hour)
		n, notes := operations()
		if n < 10 || n > before || n > 14 || notes != maxNotes {
			t.Errorf("%s: of %d operations %d are kept, with %d notes", name, before, n, notes)
		}
		for range 30 {
			must(t, w.role.Annotate(t.Context(), w.noted(w.role.Snapshot().Latest().ID, "seen"), func() error { return nil }))
			w.rotateAt(t, time.Hour)
			if n, _ := operations(); n < 10 {
				t.Errorf("%s: %d operations are kept", name, n)
			}
		}
		if found, err := w.role.Find(t.Context(), first); settings.Retention > 0 && (found != nil || err != nil) {
			t.Errorf("%s: the first is still there, %v", name, err)
		}
		if _, notes := operations(); settings.Retention > 0 && notes > 2*10 {
			t.Errorf("%s: %d notes outlive what they are about", name, notes)
		}
		w.stop()
	}
}

// TestClocksThatGoBackwards drop nothing that is not too old by the clock there is,
// and nothing after it.
func TestClocksThatGoBackwards(t *testing.T) {
	t.Parallel()
	w := long(t, 30)
	defer w.stop()
	w.settings.MaxAge = 24 * time.Hour
	w.advance(-1000 * time.Hour)
	w.rotateAt(t, time.Hour)
	if h, _, _ := w.prunes(t); h.Base != 0 {
		t.Errorf("in the past %+v", h)
	}
	w.advance(1000 * time.Hour)
	w.rotateAt(t, time.Hour)
	h, entries, _ := w.prunes(t)
	oldest, _ := entries[0].Decode()
	if h.Base == 0 || oldest.Started.Before(w.now().Add(-24*time.Hour)) {
		t.Errorf("back again %+v, the oldest of %s", h, oldest.Started)
	}
}

// TestWhatIsOpenIsKept as long as values are that another has replaced, within bounds.
func TestWhatIsOpenIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld()
	prepare("jwt", "app")(t, w)
	defer w.stop()
	_, err := w.do(Request{Kind: KindRotate, Trigger: TriggerManual, Reason: "open", Secrets: []string{"app"}})
	must(t, err)
	w.settings.Retention, w.settings.MaxAge = 3, 24*time.Hour
	kept := func() (found bool, n int) {
		_, entries, _ := w.prunes(t)
		return slices.ContainsFunc(entries, func(e Entry) bool { return bytes.Contains(e.Record, []byte(`"reason":"open"`)) }), len(entries)
	}
	for range maxOpen*3 - 5 {
		_, err := w.do(Request{Kind: KindRotate, Trigger: TriggerManual, Secrets: []string{"jwt"}})
		must(t, err)
	}
	if found, n := kept(); !found {
		t.Errorf("what opened the overlap is dropped, of %d entries", n)
	}
	for range 10 {
		_, err := w.do(Request{Kind: KindRotate, Trigger: TriggerManual, Secrets: []string{"jwt"}})
		must(t, err)
	}
	if _, n := kept(); n > maxOpen*3+2 {
		t.Errorf("an overlap that does not end keeps %d entries", n)
	}
}

// TestTamperedEntriesAreNotPruned: pruning is no way to make a chain valid again.
func TestTamperedEntriesAreNotPruned(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]func(*world){
		"changed": func(w *world) {
			e := w.entries[3]
			e.Record = bytes.Replace(e.Record, []byte(`"version":`), []byte(`"version": `), 1)
			w.entries[3] = e
		},
		"gone":     func(w *world) { delete(w.entries, 3) },
		"no JSON":  func(w *world) { w.entries[3] = Entry{Sequence: 3, Record: []byte("{")} },
		"replaced": func(w *world) { w.entries[3] = w.entries[4] },
	} {
		w := long(t, 20)
		tamper(w)
		w.settings.Retention = 5
		for range 10 {
			_, err := w.do(rotate())
			must(t, err)
		}
		h, entries, err := w.role.Entries(t.Context())
		must(t, err)
		if h.Base != 2 || h.VerifyChain(entries) == nil {
			t.Errorf("%s: pruned up to %d, and the rest is valid", name, h.Base)
		}
		w.stop()
	}
}

// TestDroppedUnseen finds entries that are missing at the beginning, whoever moved it.
func TestDroppedUnseen(t *testing.T) {
	t.Parallel()
	w := long(t, 20)
	defer w.stop()
	w.settings.Retention = 10
	w.rotateAt(t, time.Hour)
	h, entries, _ := w.prunes(t)
	must(t, h.VerifyChain(entries))
	h.Base, h.BaseHash = h.Base+2, entries[1].Hash
	if err := h.VerifyChain(entries[2:]); err == nil || !strings.Contains(err.Error(), "entries up to") {
		t.Errorf("two more are dropped: %v", err)
	}
	// Before there were such entries, histories were pruned without one.
	s := &State{}
	for i := range 5 {
		must(t, s.append(Record{Operation: Operation{ID: fmt.Sprint(i), Reason: `"pruned":`}}))
	}
	s.History.Base, s.History.BaseHash = 2, s.Outbox[1].Hash
	must(t, s.History.VerifyChain(s.Outbox[2:]))
}
