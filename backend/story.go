package backend

import (
	"context"
	"slices"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// story is an operation with what came of it later.
type story struct {
	rotation.Record
	entry rotation.Entry
	// later are the records of what followed the commit, of what undid or overtook
	// it, and of the end of the values that it replaced, oldest first.
	later []rotation.Record

	// awaited are the ids of operations that something follows which is not
	// recorded yet, replaced the versions that were replaced and not retired yet,
	// by secret.
	awaited  []string
	replaced map[string]int
}

// storyPage is how many entries are read at a time.
const storyPage = 16

// tell reads on from the entry of an operation to the end of its story, or to the
// end of the history.
func tell(ctx context.Context, r *rotation.Role, rec rotation.Record, e rotation.Entry) (*story, error) {
	s := newStory(rec, e)
	for after := e.Sequence; s.open(); {
		entries, err := r.Since(ctx, after, storyPage)
		if err != nil || len(entries) == 0 {
			return s, err
		}
		for _, e := range entries {
			rec, err := e.Decode()
			if err != nil {
				return nil, err
			}
			s.take(rec)
			after = e.Sequence
		}
	}
	return s, nil
}

func newStory(rec rotation.Record, e rotation.Entry) *story {
	s := &story{Record: rec, entry: e, replaced: map[string]int{}}
	if rec.Outcome != rotation.OutcomeCompleted {
		return s
	}
	s.await(rec)
	if replaces(rec) {
		for _, result := range rec.Results {
			if result.From > 0 {
				s.replaced[result.Secret] = result.From
			}
		}
	}
	return s
}

// replaces reports whether an operation gave secrets other values.
func replaces(rec rotation.Record) bool {
	return rec.Outcome == rotation.OutcomeCompleted && (rec.Kind == rotation.KindRotate || rec.Kind == rotation.KindRollback)
}

func (s *story) await(rec rotation.Record) {
	if rec.Open() && rec.Kind != rotation.KindFollow {
		s.awaited = append(s.awaited, rec.ID)
	}
}

// open reports whether there is more to come.
func (s *story) open() bool { return len(s.awaited)+len(s.replaced) > 0 }

// take adds a later record to the story if it belongs there.
func (s *story) take(rec rotation.Record) {
	if !s.open() {
		return
	}
	followed, ended := s.follows(rec), s.ends(rec)
	if followed || ended {
		s.later = append(s.later, rec)
	}
}

// follows reports whether a record is about what followed, or ended it: another
// commit ends what followed the one before. A rollback that did not complete is
// tried again.
func (s *story) follows(rec rotation.Record) bool {
	if len(s.awaited) == 0 {
		return false
	}
	if i := slices.Index(s.awaited, rec.Follows); i >= 0 {
		if rec.Kind == rotation.KindFollow || rec.Outcome == rotation.OutcomeCompleted {
			s.awaited = slices.Delete(s.awaited, i, i+1)
			s.await(rec)
		}
		return true
	}
	if replaces(rec) {
		s.awaited = nil
		return true
	}
	return false
}

// ends reports whether a record ends the life of a replaced value: it is retired,
// it is current again, another one takes its place as the previous one, or the
// secret is forgotten.
func (s *story) ends(rec rotation.Record) bool {
	ending := []rotation.Kind{rotation.KindRetire, rotation.KindDelete}
	if !replaces(rec) && !slices.Contains(ending, rec.Kind) {
		return false
	}
	ended := false
	for _, secret := range rec.Secrets {
		if s.replaced[secret] == 0 {
			continue
		}
		ended = true
		if rec.Outcome == rotation.OutcomeCompleted {
			delete(s.replaced, secret)
		}
	}
	return ended
}
