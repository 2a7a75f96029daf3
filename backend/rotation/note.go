package rotation

import (
	"context"
	"slices"
)

// Note is what a person has added to an earlier record of the same history. Nothing reads
// its texts but people.
type Note struct {
	// About is the id of that record. It is not Follows, which is of what concludes an
	// operation: a note never does.
	About string   `json:"about"`
	Kind  NoteKind `json:"kind"`
	Text  string   `json:"text"`
	// Ticket is where there is more about it, empty if nobody said so.
	Ticket string `json:"ticket,omitempty"`
}

// NoteKind is the line of the rotation procedure that a note answers.
type NoteKind string

// The kinds of notes.
const (
	NoteResolution  NoteKind = "resolution"  // an issue, and what was done about it
	NoteNextStep    NoteKind = "next_step"   // what is left to do
	NoteResponsible NoteKind = "responsible" // who sees to the next rotation
	NoteProcedures  NoteKind = "procedures"  // what to change in the rotation procedures
	NoteTraining    NoteKind = "training"    // what the team has to learn
)

// maxNotes bounds the notes about one record, and those of a history, which is read as a
// whole to verify its chain: one that has manyNotes takes only leastNotes about a record,
// one for each kind, so that nobody can keep others from what the procedure asks for.
const (
	maxNotes   = 50
	leastNotes = 5
	manyNotes  = 1000
)

// About is the id of the record that a note is about, "" of what is no note.
func (r Record) About() string {
	if r.Note == nil {
		return ""
	}
	return r.Note.About
}

// Annotate adds rec, which is a note, to the history that has the record that it is about.
// The same note by the same person is added once: a request may be delivered again, also
// after storage did not answer for the note. An
// error that wraps ErrInvalid says that there is no such record, or none for more notes. Admit is
// asked last whether the note may be added.
func (r *Role) Annotate(ctx context.Context, rec *Record, admit func() error) error {
	r.noting.Lock()
	defer r.noting.Unlock()
	if err := r.reload(ctx); err != nil {
		return err
	}
	found, err := r.Find(ctx, rec.Note.About)
	switch {
	case err != nil:
		return err
	case found == nil:
		return Invalid("id", "the history of %s has no record %q; list the history, and give the rotation_id of a record. Old records may have been dropped", r.Name, rec.Note.About)
	case found.Record.Note != nil:
		return Invalid("id", "%q is itself a note; give the rotation_id of the record that it is about: %s", rec.Note.About, found.Record.Note.About)
	}
	again := func(old Record) bool { return *old.Note == *rec.Note && old.Actor == rec.Actor }
	if slices.ContainsFunc(found.Notes, again) {
		return nil
	}
	if len(found.Notes) >= maxNotes {
		return Invalid("id", "%q has %d notes, and can't have more; add the note to a later record, or write it into the ticket that a note names", rec.Note.About, len(found.Notes))
	}
	if all := r.Snapshot().History.Notes; all >= manyNotes && len(found.Notes) >= leastNotes {
		return Invalid("id", "%q has %d notes, and can't have more, because the history of %s has %d; add the note to a later record, or write it into the ticket that a note names", rec.Note.About, len(found.Notes), r.Name, all)
	}
	if err := admit(); err != nil {
		return err
	}
	return r.Note(ctx, rec)
}
