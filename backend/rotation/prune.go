package rotation

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"
)

// Pruned says which entries of a history were dropped, in the record that stands
// for them.
type Pruned struct {
	// Entries is how many, from the sequence number First to Last.
	Entries int `json:"entries"`
	First   int `json:"first_sequence"`
	Last    int `json:"last_sequence"`
	// HeadHash is the hash of the last: the oldest entry that is kept follows it.
	HeadHash string `json:"head_hash"`
	// Oldest and Newest are when the first and the last of what they told had started.
	Oldest time.Time `json:"oldest"`
	Newest time.Time `json:"newest"`

	notes int // how many of the entries were notes
}

const (
	// leastSurplus is by how many operations a history exceeds its limit at least before
	// it is pruned; a tenth of the limit if that is more. So entries about pruning
	// stay few.
	leastSurplus = 5
	// leastKept is how many of the newest operations are kept, however old they are.
	leastKept = 10
	// maxPruned bounds what is pruned at a time, and maxOpen how many times the limit
	// a history may have because a previous value has not ended.
	maxPruned = 1000
	maxOpen   = 10
)

// prunable returns what the limits of the mount let go of the history, nil if that
// is not enough yet. Only the oldest entries go, each a link of the chain as it
// should be: what was tampered with stays, and shows. Neither goes what tells of the
// values that are current beside a previous one, or of what still follows. Notes of
// people don't count, so they push no operation out; they go with what is before them.
func (r *Role) prunable(ctx context.Context) (*Pruned, error) {
	s, limits := r.Snapshot().State, r.engine.Settings()
	before := time.Time{}
	if limits.MaxAge > 0 {
		before = r.engine.Now().Add(-limits.MaxAge)
	}
	enough, err := r.overdue(ctx, s, limits)
	if err != nil || !enough {
		return nil, err
	}
	newer := s.History.operations()
	base, pruned := History{Base: s.History.Base, BaseHash: s.History.BaseHash}, &Pruned{First: s.History.Base + 1}
	for base.Base < s.History.Count && pruned.Entries < maxPruned {
		e, rec, err := r.link(ctx, s, base)
		if err != nil {
			return nil, err
		}
		if rec.Kind != KindNote {
			newer--
		}
		surplus := limits.Retention > 0 && newer >= limits.Retention
		aged := rec.Started.Before(before) && newer >= leastKept
		if e == nil || !surplus && !aged || s.opens(rec, limits.Retention) {
			break
		}
		if pruned.Entries++; pruned.Entries == 1 {
			pruned.Oldest = rec.Started
		}
		pruned.Last, pruned.HeadHash, pruned.Newest = e.Sequence, e.Hash, rec.Started
		base.Base, base.BaseHash = e.Sequence, e.Hash
		if rec.Kind == KindNote {
			pruned.notes++
		}
	}
	if pruned.Entries == 0 {
		return nil, nil
	}
	return pruned, nil
}

// overdue reports whether the history exceeds a limit by so much that pruning it is
// worth an entry: by a tenth of the number, or of the age.
func (r *Role) overdue(ctx context.Context, s *State, limits Settings) (bool, error) {
	surplus := s.History.operations() - limits.Retention
	if limits.Retention > 0 && surplus > max(limits.Retention/10, leastSurplus) {
		return true, nil
	}
	if limits.MaxAge == 0 || s.History.operations() <= leastKept {
		return false, nil
	}
	e, oldest, err := r.link(ctx, s, s.History)
	return e != nil && oldest.Started.Before(r.engine.Now().Add(-limits.MaxAge-limits.MaxAge/10)), err
}

// link returns the entry after base and its record, nil if it is not there or does
// not follow.
func (r *Role) link(ctx context.Context, s *State, base History) (*Entry, Record, error) {
	e, err := r.entry(ctx, s, base.Base+1)
	if err != nil || e == nil {
		return nil, Record{}, err
	}
	next := History{Base: base.Base, BaseHash: base.BaseHash, Count: e.Sequence, Head: e.Hash}
	rec, err := e.Decode()
	if err != nil || next.VerifyLinks([]Entry{*e}) != nil {
		return nil, Record{}, nil //nolint:nilerr // it stays, for who verifies the chain to find
	}
	return e, rec, nil
}

// opens reports whether rec is of what has not ended: the commit since which there
// is a previous value, or which something follows, and all after it. Versions only
// grow, so that is a part at the end of the history.
func (s *State) opens(rec Record, retention int) bool {
	if retention > 0 && s.History.operations() > maxOpen*retention {
		return false
	}
	if s.PostCommit != nil && rec.Version >= s.PostCommit.Version {
		return true
	}
	for _, secret := range s.Secrets {
		if secret.Previous != nil && secret.Current != nil && rec.Version >= secret.Current.Version {
			return true
		}
	}
	return false
}

// cut is the change that lets pruned go and tells so.
func (r *Role) cut(s *State, pruned *Pruned) error {
	limits := r.engine.Settings()
	rec := Record{Operation: r.engine.NewOperation(KindPrune, TriggerSchedule), Outcome: OutcomeCompleted, Results: []SecretResult{}, Pruned: pruned}
	rec.Secrets = []string{}
	r.fill(s, &rec)
	rec.Reason = fmt.Sprintf("the history keeps %d entries", limits.Retention)
	if limits.MaxAge > 0 {
		rec.Reason += fmt.Sprintf(", for %s", limits.MaxAge)
	}
	rec.Issues = []string{pruned.String()}
	s.History.Base, s.History.BaseHash = pruned.Last, pruned.HeadHash
	s.History.Notes = max(0, s.History.Notes-pruned.notes)
	return s.append(rec)
}

// String tells what was dropped.
func (p *Pruned) String() string {
	return fmt.Sprintf("entries %d to %d, of %s to %s, were dropped; the hash of the last was %s",
		p.First, p.Last, p.Oldest.UTC().Format(time.RFC3339), p.Newest.UTC().Format(time.RFC3339), p.HeadHash)
}

// prune deletes the entries that the saved state no longer counts. A failure is
// no more than clutter, which the next time removes: the chain begins after base,
// whatever is before it.
func (r *Role) prune(ctx context.Context, base int) error {
	if err := r.engine.Store.DeleteEntries(ctx, r.Key, base); err != nil {
		return fmt.Errorf("%w: prune history of %s: %w", ErrStorage, r.Key, err)
	}
	return nil
}

// verifyPruned checks that what was dropped is what the newest entry about that
// says. Versions of the engine that wrote none may have dropped entries before.
func (h History) verifyPruned(entries []Entry) error {
	for _, e := range slices.Backward(entries) {
		if !bytes.Contains(e.Record, []byte(`"pruned":`)) {
			continue // most are about something else, and decoding takes long
		}
		rec, err := e.Decode()
		if err != nil {
			return err
		}
		if rec.Pruned == nil {
			continue
		}
		if rec.Pruned.Last != h.Base || rec.Pruned.HeadHash != h.BaseHash {
			return fmt.Errorf("entry %d says that entries up to %d were dropped, but all up to %d are missing", e.Sequence, rec.Pruned.Last, h.Base)
		}
		return nil
	}
	return nil
}
