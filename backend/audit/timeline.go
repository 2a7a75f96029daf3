// Package audit reads what a history has recorded, for people and for other programs:
// an operation plus the later records that concluded it, as the document that a rotation procedure
// asks for, and its entries as JSON Lines. It changes nothing.
package audit

import (
	"context"
	"slices"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// History is what records are read from: a role, a connection, or the configuration.
type History interface {
	// Find returns the record with that id and the notes about it, nil if there is none.
	Find(ctx context.Context, id string) (*rotation.Found, error)
	// Since returns the oldest entries after that sequence number, at most so many.
	Since(ctx context.Context, sequence, most int) ([]rotation.Entry, error)
}

// Timeline is an operation plus the later records that concluded it.
type Timeline struct {
	rotation.Record
	// Path is where Vault answers the record, for the commands that the document names.
	Path  string
	entry rotation.Entry
	// notes are what people have added, oldest first. They conclude nothing.
	notes []rotation.Record
	// later are these records, oldest first: post-commit work, a rollback or another
	// commit, and the retirement of the replaced values.
	later []rotation.Record

	// awaited are the ids of operations whose post-commit record is outstanding,
	// replaced the versions that were replaced and not retired yet, by secret.
	awaited  []string
	replaced map[string]int
}

// pageSize is how many entries are read at a time.
const pageSize = 16

// Load returns the timeline of the operation with that id; nil if there is none. It
// reads on from the entry of the operation to the end of its timeline, or to the end
// of the history.
func Load(ctx context.Context, r History, id string) (*Timeline, error) {
	found, err := r.Find(ctx, id)
	if err != nil || found == nil {
		return nil, err
	}
	t := newTimeline(found.Record, found.Entry)
	t.notes = found.Notes
	for after := found.Entry.Sequence; t.open(); {
		entries, err := r.Since(ctx, after, pageSize)
		if err != nil || len(entries) == 0 {
			return t, err
		}
		for _, e := range entries {
			rec, err := e.Decode()
			if err != nil {
				return nil, err
			}
			t.take(rec)
			after = e.Sequence
		}
	}
	return t, nil
}

func newTimeline(rec rotation.Record, e rotation.Entry) *Timeline {
	t := &Timeline{Record: rec, entry: e, replaced: map[string]int{}}
	if rec.Outcome != rotation.OutcomeCompleted {
		return t
	}
	t.await(rec)
	if replaces(rec) {
		for _, result := range rec.Results {
			if result.From > 0 {
				t.replaced[result.Secret] = result.From
			}
		}
	}
	return t
}

// replaces reports whether an operation gave secrets other values.
func replaces(rec rotation.Record) bool {
	return rec.Outcome == rotation.OutcomeCompleted && (rec.Kind == rotation.KindRotate || rec.Kind == rotation.KindRollback)
}

func (t *Timeline) await(rec rotation.Record) {
	if rec.Open() && rec.Kind != rotation.KindPostCommit {
		t.awaited = append(t.awaited, rec.ID)
	}
}

// open reports whether later records may still conclude the operation.
func (t *Timeline) open() bool { return len(t.awaited)+len(t.replaced) > 0 }

// take adds a later record to the timeline if it belongs there.
func (t *Timeline) take(rec rotation.Record) {
	if !t.open() {
		return
	}
	followed, ended := t.follows(rec), t.ends(rec)
	if followed || ended {
		t.later = append(t.later, rec)
	}
}

// follows reports whether a record is about the post-commit work, or ended it: a
// commit ends the post-commit work of the one before. A rollback that did not
// complete is tried again.
func (t *Timeline) follows(rec rotation.Record) bool {
	if len(t.awaited) == 0 {
		return false
	}
	if i := slices.Index(t.awaited, rec.Follows); i >= 0 {
		if rec.Kind == rotation.KindPostCommit || rec.Outcome == rotation.OutcomeCompleted {
			t.awaited = slices.Delete(t.awaited, i, i+1)
			t.await(rec)
		}
		return true
	}
	if replaces(rec) {
		t.awaited = nil
		return true
	}
	return false
}

// ends reports whether a record ends the life of a replaced value: it is retired, it
// is current again, another one becomes the previous one, or the secret is deleted.
func (t *Timeline) ends(rec rotation.Record) bool {
	ending := []rotation.Kind{rotation.KindRetire, rotation.KindDelete}
	if !replaces(rec) && !slices.Contains(ending, rec.Kind) {
		return false
	}
	ended := false
	for _, secret := range rec.Secrets {
		if t.replaced[secret] == 0 {
			continue
		}
		ended = true
		if rec.Outcome == rotation.OutcomeCompleted || rec.Kind == rotation.KindRetire && retired(rec, secret) {
			delete(t.replaced, secret)
		}
	}
	return ended
}
