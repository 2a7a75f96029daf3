// Package audit reads what a history has recorded, for people and for other programs:
// an operation with what came of it later, as the record that a rotation procedure
// asks for, and entries as JSON Lines. It changes nothing.
package audit

import (
	"context"
	"slices"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// History is what records are read from: a role, a connection, or the configuration.
type History interface {
	// Find returns the entry of the operation with that id, nil if there is none.
	Find(ctx context.Context, id string) (*rotation.Entry, rotation.Record, error)
	// Since returns the oldest entries after that sequence number, at most so many.
	Since(ctx context.Context, sequence, most int) ([]rotation.Entry, error)
}

// Timeline is an operation with what came of it later.
type Timeline struct {
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

// pageSize is how many entries are read at a time.
const pageSize = 16

// Load returns the timeline of the operation with that id; nil if there is none. It
// reads on from the entry of the operation to the end of its timeline, or to the end
// of the history.
func Load(ctx context.Context, r History, id string) (*Timeline, error) {
	e, rec, err := r.Find(ctx, id)
	if err != nil || e == nil {
		return nil, err
	}
	s := newTimeline(rec, *e)
	for after := e.Sequence; s.open(); {
		entries, err := r.Since(ctx, after, pageSize)
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

func newTimeline(rec rotation.Record, e rotation.Entry) *Timeline {
	s := &Timeline{Record: rec, entry: e, replaced: map[string]int{}}
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

func (s *Timeline) await(rec rotation.Record) {
	if rec.Open() && rec.Kind != rotation.KindFollow {
		s.awaited = append(s.awaited, rec.ID)
	}
}

// open reports whether there is more to come.
func (s *Timeline) open() bool { return len(s.awaited)+len(s.replaced) > 0 }

// take adds a later record to the timeline if it belongs there.
func (s *Timeline) take(rec rotation.Record) {
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
func (s *Timeline) follows(rec rotation.Record) bool {
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
func (s *Timeline) ends(rec rotation.Record) bool {
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
