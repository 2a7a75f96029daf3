package rotation

import (
	"context"
	"errors"
	"fmt"
)

// Entries returns the history from the oldest kept entry to the newest, with
// those that still travel in the state.
func (r *Role) Entries(ctx context.Context) (History, []Entry, error) {
	for {
		s := r.Snapshot()
		entries, err := r.kept(ctx, s.State)
		if err != nil {
			return History{}, nil, err
		}
		// Entries that were pruned meanwhile are not missing.
		if r.Snapshot().History.Base == s.History.Base {
			return s.History, entries, nil
		}
	}
}

// Find returns the kept entry whose record has that id, and the record; nil if
// there is none. It begins with the newest, which is what people ask for.
func (r *Role) Find(ctx context.Context, id string) (*Entry, Record, error) {
	s := r.Snapshot()
	for sequence := s.History.Count; sequence > s.History.Base; sequence-- {
		e, err := r.entry(ctx, s.State, sequence)
		if err != nil {
			return nil, Record{}, err
		}
		if e == nil { // pruned meanwhile
			break
		}
		rec, err := e.Decode()
		if err != nil || rec.ID == id {
			return e, rec, err
		}
	}
	return nil, Record{}, nil
}

// Since returns the oldest kept entries after that sequence number, at most so many.
func (r *Role) Since(ctx context.Context, sequence, most int) ([]Entry, error) {
	s := r.Snapshot()
	var entries []Entry
	for at := max(sequence, s.History.Base) + 1; at <= s.History.Count && len(entries) < most; at++ {
		e, err := r.entry(ctx, s.State, at)
		if err != nil {
			return nil, err
		}
		if e != nil {
			entries = append(entries, *e)
		}
	}
	return entries, nil
}

// kept reads the entries that s counts.
func (r *Role) kept(ctx context.Context, s *State) ([]Entry, error) {
	entries := make([]Entry, 0, s.History.Count-s.History.Base)
	for sequence := s.History.Base + 1; sequence <= s.History.Count; sequence++ {
		e, err := r.entry(ctx, s, sequence)
		if err != nil {
			return nil, err
		}
		if e != nil {
			entries = append(entries, *e)
		}
	}
	return entries, nil
}

// entry returns one history entry, from the outbox or from storage.
func (r *Role) entry(ctx context.Context, s *State, sequence int) (*Entry, error) {
	for i := range s.Outbox {
		if s.Outbox[i].Sequence == sequence {
			return &s.Outbox[i], nil
		}
	}
	e, err := r.engine.Store.Entry(ctx, r.Key, sequence)
	if err != nil {
		return nil, errors.Join(ErrStorage, fmt.Errorf("read history entry %d of %s: %w", sequence, r.Key, err))
	}
	return e, nil
}
