package rotation

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// mostStored is how many bytes Vault's integrated storage takes in an entry.
const mostStored = 1 << 20

// store is the storage of the world.
type store world

var _ Store = (*store)(nil)

func (st *store) w() *world { return (*world)(st) }

func (st *store) Load(context.Context, string) (s *State, err error) {
	err = st.w().call("load", func() error {
		if st.state == nil {
			return nil
		}
		s, err = Decode(st.state)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (st *store) Save(_ context.Context, _ string, s *State) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	next := s.Clone()
	if len(raw) > mostStored {
		return fmt.Errorf("put failed due to value being too large: got %d bytes, max: %d bytes", len(raw), mostStored)
	}
	return st.w().call("save", func() error {
		st.w().watchSave(st.stored, next)
		st.state, st.stored = raw, next
		return nil
	})
}

func (st *store) Append(_ context.Context, _ string, e Entry) error {
	return st.w().call("append", func() error {
		if old, ok := st.entries[e.Sequence]; ok && old.Hash != e.Hash {
			st.w().breakf("history entry %d was replaced by another", e.Sequence)
		}
		st.entries[e.Sequence] = e
		return nil
	})
}

func (st *store) Entry(_ context.Context, _ string, sequence int) (found *Entry, err error) {
	err = st.w().call("entry", func() error {
		if e, ok := st.entries[sequence]; ok {
			found = &e
		}
		return nil
	})
	return found, err
}

func (st *store) DeleteEntries(_ context.Context, _ string, sequence int) error {
	return st.w().call("prune", func() error {
		for _, n := range slices.Collect(maps.Keys(st.entries)) {
			if n <= sequence {
				delete(st.entries, n)
			}
		}
		return nil
	})
}
