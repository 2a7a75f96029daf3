package audit

import (
	"fmt"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// NoteFields are notes as they are answered with the record that they are about.
func NoteFields(notes []rotation.Record) []map[string]any {
	fields := make([]map[string]any, 0, len(notes))
	for _, rec := range notes {
		fields = append(fields, map[string]any{
			"rotation_id": rec.ID, "started": rec.Started.Format(time.RFC3339),
			"display_name": rec.Actor.DisplayName, "entity_id": rec.Actor.EntityID,
			"kind": string(rec.Note.Kind), "text": rec.Note.Text, "ticket": rec.Note.Ticket,
		})
	}
	return fields
}

// note is what a record of kind note says.
func (t *Timeline) note(d *document) {
	if t.Note == nil {
		return
	}
	d.line("\n## Note")
	d.line("- About: %s", plain(t.Note.About))
	d.line("- Kind: %s", t.Note.Kind)
	d.line("- Ticket: %s", orText(plain(t.Note.Ticket), "none given"))
	d.line("- Text: %s", plain(t.Note.Text))
}

// filledIn writes a line of the procedure with each note of its kind, or with what stands
// there if there is none.
func (t *Timeline) filledIn(d *document, line string, kind rotation.NoteKind, without string) {
	notes := t.notesOf(kind)
	if len(notes) == 0 {
		notes = []string{without}
	}
	for _, note := range notes {
		d.line("- %s: %s", line, note)
	}
}

// toFillIn says who fills in a line, and by which command.
func (t *Timeline) toFillIn(kind rotation.NoteKind) string {
	return fmt.Sprintf("for a person to fill in: `vault write %s/note kind=%s text=…`", t.Path, kind)
}

// notesOf are the notes of a kind, each in one line. Who wrote it comes first, so that
// nothing in a note reads like a line of the engine, or like a note of somebody else.
func (t *Timeline) notesOf(kind rotation.NoteKind) []string {
	var lines []string
	for _, rec := range t.notes {
		if rec.Note.Kind != kind {
			continue
		}
		line := fmt.Sprintf("note by %s, at %s", performer(rec), rec.Started.UTC().Format(time.RFC3339))
		if rec.Note.Ticket != "" {
			line += ", ticket " + plain(rec.Note.Ticket)
		}
		lines = append(lines, line+": "+plain(rec.Note.Text))
	}
	return lines
}
