package notify

import (
	"slices"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// cursor is how far a dispatcher is with a role.
type cursor struct {
	// Sequence is that of the newest history entry that was sent.
	Sequence int `json:"sequence"`
	// Started is the rotation whose start was sent.
	Started string `json:"started,omitempty"`
	// DueSoon and Overdue are the rotations of which that was sent.
	DueSoon time.Time `json:"due_soon,omitzero"`
	Overdue time.Time `json:"overdue,omitzero"`
	// Refused are the secrets of which was sent that their targets refuse what is
	// stored, as refusals.
	Refused string `json:"refused,omitempty"`
	// Unresolved are the secrets of which was sent that they are unresolved.
	Unresolved string `json:"unresolved,omitempty"`
	// Waiting are those, as waitID, of whom was sent that overlaps go on for them.
	Waiting []string `json:"waiting,omitempty"`
	// RetiredUse is the number of the latest use of a retired value that was sent.
	RetiredUse int `json:"retired_use,omitempty"`
	// Lasting is what an Alertmanager was sent and shows, so that whoever is active
	// next sends it again, or resolves it.
	Lasting []Lasting `json:"lasting,omitempty"`
}

// equal reports whether both are as far.
func (at cursor) equal(other cursor) bool {
	return at.Sequence == other.Sequence && at.Started == other.Started && at.DueSoon.Equal(other.DueSoon) &&
		at.Overdue.Equal(other.Overdue) && at.Refused == other.Refused && at.Unresolved == other.Unresolved && at.RetiredUse == other.RetiredUse &&
		slices.Equal(at.Waiting, other.Waiting) && slices.Equal(at.Lasting, other.Lasting)
}

// saveCursor stores how far the dispatcher is, after the sink has taken what comes
// before: whoever dies in between delivers that again.
func (d *dispatcher) saveCursor(r *rotation.Role, at cursor) error {
	return d.ports.Failpoint(d.ctx, "alert-"+d.name+".cursor", func() error {
		return d.ports.Store.Write(d.ctx, d.cursorKey(r), at)
	})
}

func (d *dispatcher) cursorKey(r *rotation.Role) string { return cursorPrefix + d.name + "/" + r.Key }

// cursor returns how far the dispatcher is with a role: from storage the first time,
// and for a role that it knows nothing of, at what had happened when the alert was
// created.
func (d *dispatcher) cursor(r *rotation.Role) (*cursor, error) {
	if at := d.cursors[r.Key]; at != nil {
		return at, nil
	}
	at := &cursor{}
	found, err := d.ports.Store.Read(d.ctx, d.cursorKey(r), at)
	if err == nil && !found {
		at.Sequence, err = d.beginning(r)
	}
	if err == nil {
		d.cursors[r.Key] = at
	}
	return at, err
}

// beginning is the newest entry from before the alert was created.
func (d *dispatcher) beginning(r *rotation.Role) (int, error) {
	s := r.Snapshot()
	for sequence := s.History.Count; sequence > s.History.Base; sequence-- {
		entries, err := r.Since(d.ctx, sequence-1, 1)
		if err != nil {
			return 0, err
		}
		if len(entries) == 0 {
			continue
		}
		rec, err := entries[0].Decode()
		if err != nil || rec.Started.Before(d.config.Created) {
			return sequence, err
		}
	}
	return s.History.Base, nil
}
