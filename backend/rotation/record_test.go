package rotation

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// chain is a history of n entries.
func chain(t *testing.T, n int) (History, []Entry) {
	t.Helper()
	s := &State{}
	for i := range n {
		must(t, s.append(Record{Operation: Operation{ID: string(rune('a' + i)), Reason: "why\n<&>\u2028"}, Version: i + 1, Note: &Note{Text: "said"}}))
	}
	return s.History, s.Outbox
}

func TestAChainThatIsWholeVerifies(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		h, entries := chain(t, n)
		if err := h.VerifyChain(entries); err != nil || h.Count != n {
			t.Errorf("%d entries: %v", n, err)
		}
	}
}

func TestTamperingIsFound(t *testing.T) {
	t.Parallel()
	edit := func(i int, change func(*Entry)) func(*History, []Entry) []Entry {
		return func(_ *History, e []Entry) []Entry { change(&e[i]); return e }
	}
	reseal := func(e *Entry) {
		e.Record = bytes.Replace(e.Record, []byte("why"), []byte("not"), 1)
		e.Hash = e.sum()
	}
	for name, c := range map[string]struct {
		tamper func(*History, []Entry) []Entry
		want   string
	}{
		"changed":                 {edit(2, func(e *Entry) { e.Record = bytes.Replace(e.Record, []byte("why"), []byte("not"), 1) }), "entry 3 was changed"},
		"a changed note":          {edit(2, func(e *Entry) { e.Record = bytes.Replace(e.Record, []byte("said"), []byte("meant"), 1) }), "entry 3 was changed"},
		"changed in a blank":      {edit(2, func(e *Entry) { e.Record = append(slices.Clone(e.Record), ' ') }), "entry 3 was changed"},
		"changed with its hash":   {edit(2, reseal), "entry 3 or the link to it was changed: entry 4 follows another hash"},
		"the last, with its hash": {edit(4, reseal), "entry 5 is not the one the role's state names"},
		"changed and linked again": {func(_ *History, e []Entry) []Entry {
			reseal(&e[2])
			e[3].PreviousHash = e[2].Hash
			return e
		}, "entry 4 was changed"},
		"hash only":         {edit(0, func(e *Entry) { e.Hash = strings.Repeat("0", 64) }), "entry 1 was changed"},
		"link only":         {edit(1, func(e *Entry) { e.PreviousHash = "" }), "entry 2 was changed"},
		"an invented past":  {edit(0, func(e *Entry) { e.PreviousHash = "0"; e.Hash = e.sum() }), "entry 1 was changed: it follows a hash, and no entry is before it"},
		"renumbered":        {edit(1, func(e *Entry) { e.Sequence = 7 }), "entry 2 is missing"},
		"dropped":           {func(_ *History, e []Entry) []Entry { return slices.Delete(e, 1, 2) }, "entry 2 is missing"},
		"the first dropped": {func(_ *History, e []Entry) []Entry { return e[1:] }, "entry 1 is missing"},
		"truncated":         {func(_ *History, e []Entry) []Entry { return e[:4] }, "entry 5 is missing"},
		"all gone":          {func(*History, []Entry) []Entry { return nil }, "entry 1 is missing"},
		"reordered":         {func(_ *History, e []Entry) []Entry { e[1], e[2] = e[2], e[1]; return e }, "entry 2 is missing"},
		"doubled":           {func(_ *History, e []Entry) []Entry { return slices.Insert(e, 1, e[0]) }, "entry 2 is missing"},
		"one too many": {func(_ *History, e []Entry) []Entry {
			more := Entry{Sequence: 6, PreviousHash: e[4].Hash, Record: []byte(`{}`)}
			more.Hash = more.sum()
			return append(e, more)
		}, "entry 7 is missing"},
		"another head": {func(h *History, e []Entry) []Entry { h.Head = e[3].Hash; return e }, "entry 5 is not the one"},
		"wrong base":   {func(h *History, e []Entry) []Entry { h.Base, h.BaseHash = 2, e[0].Hash; return e[2:] }, "entry 2 or the link to it was changed: entry 3 follows another hash"},
		"false base":   {func(h *History, e []Entry) []Entry { h.Base = 2; return e[2:] }, "entry 2 or the link to it was changed: entry 3 follows another hash"},
	} {
		h, entries := chain(t, 5)
		if err := h.VerifyChain(c.tamper(&h, entries)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestAChainVerifiesFromWhereRetentionCutIt(t *testing.T) {
	t.Parallel()
	h, entries := chain(t, 5)
	h.Base, h.BaseHash = 2, entries[1].Hash
	must(t, h.VerifyChain(entries[2:]))
	if err := h.VerifyChain(entries); err == nil {
		t.Error("entries before the base were taken")
	}
}

func TestARecordSurvivesItsEntry(t *testing.T) {
	t.Parallel()
	_, entries := chain(t, 1)
	r, err := entries[0].Decode()
	if err != nil || r.ID != "a" || r.Reason != "why\n<&>\u2028" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := (Entry{Sequence: 3, Record: []byte("{")}).Decode(); err == nil || !strings.Contains(err.Error(), "entry 3") {
		t.Errorf("a damaged entry: %v", err)
	}
}

func TestTheOutboxKeepsWhatAnswersARepeatedRequest(t *testing.T) {
	t.Parallel()
	s := &State{}
	for _, id := range []string{"", "old", "", "request", "", ""} {
		must(t, s.append(Record{Operation: Operation{RequestID: id}, Outcome: OutcomeCompleted}))
	}
	s.dropAppended(4)
	var kept []int
	for _, e := range s.Outbox {
		kept = append(kept, e.Sequence)
	}
	if !slices.Equal(kept, []int{4, 5, 6}) {
		t.Errorf("after four were appended, %v are kept", kept)
	}
	s.dropAppended(6)
	if _, n := s.answer("request"); n != 4 || len(s.Outbox) != 2 {
		t.Errorf("after all were: %d, of %d", n, len(s.Outbox))
	}
	if r, n := s.answer("old"); r != nil || n != 0 {
		t.Error("an older request still has an answer")
	}
}
