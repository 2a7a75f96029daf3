package notify

import (
	"slices"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// cursor is how far a courier is with a role.
type cursor struct {
	// Sequence is that of the newest history entry that was told.
	Sequence int `json:"sequence"`
	// Started is the rotation whose beginning was told.
	Started string `json:"started,omitempty"`
	// DueSoon and Overdue are the rotations of which that was told.
	DueSoon time.Time `json:"due_soon,omitzero"`
	Overdue time.Time `json:"overdue,omitzero"`
	// Refused are the secrets of which was told that their targets refuse what is
	// stored, as refusals.
	Refused string `json:"refused,omitempty"`
	// Unresolved are the secrets of which was told that they are unresolved.
	Unresolved string `json:"unresolved,omitempty"`
	// Lasting is what an Alertmanager was told and shows, so that whoever is active
	// next tells it again, or that it is over.
	Lasting []Lasting `json:"lasting,omitempty"`
}

// same reports whether both are as far.
func (at cursor) same(other cursor) bool {
	return at.Sequence == other.Sequence && at.Started == other.Started && at.DueSoon.Equal(other.DueSoon) &&
		at.Overdue.Equal(other.Overdue) && at.Refused == other.Refused && at.Unresolved == other.Unresolved && slices.Equal(at.Lasting, other.Lasting)
}

// keep stores how far the courier is, after the sink has taken what comes before
// that: who dies in between delivers it again.
func (c *courier) keep(r *rotation.Role, at cursor) error {
	return c.ports.Failpoint(c.ctx, "alert-"+c.name+".cursor", func() error {
		return c.ports.Store.Write(c.ctx, c.cursorKey(r), at)
	})
}

func (c *courier) cursorKey(r *rotation.Role) string { return CursorPrefix + c.name + "/" + r.Key }

// cursor returns how far the courier is with a role: from storage the first time,
// and for a role that it knows nothing of, at what had happened when the alert was
// created.
func (c *courier) cursor(r *rotation.Role) (*cursor, error) {
	if at := c.cursors[r.Key]; at != nil {
		return at, nil
	}
	at := &cursor{}
	found, err := c.ports.Store.Read(c.ctx, c.cursorKey(r), at)
	if err == nil && !found {
		at.Sequence, err = c.beginning(r)
	}
	if err == nil {
		c.cursors[r.Key] = at
	}
	return at, err
}

// beginning is the newest entry from before the alert was created.
func (c *courier) beginning(r *rotation.Role) (int, error) {
	s := r.Snapshot()
	for sequence := s.History.Count; sequence > s.History.Base; sequence-- {
		entries, err := r.Since(c.ctx, sequence-1, 1)
		if err != nil {
			return 0, err
		}
		if len(entries) == 0 {
			continue
		}
		rec, err := entries[0].Decode()
		if err != nil || rec.Started.Before(c.config.Created) {
			return sequence, err
		}
	}
	return s.History.Base, nil
}
