package audit

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// document is what a record is written into, line by line.
type document struct{ strings.Builder }

func (d *document) line(format string, args ...any) { _, _ = fmt.Fprintf(d, format+"\n", args...) }

// Markdown renders a timeline as the document that the manual procedure asks for.
// Subject says whose history it is: a role's, a connection's or the configuration's; now
// is its state.
func (t *Timeline) Markdown(subject string, now *rotation.State, latencies Latencies) string {
	var d document
	d.line("# Secret Rotation Audit\n")
	t.event(&d, subject)
	t.note(&d)
	d.line("\n## Secrets Rotated")
	for _, r := range t.Results {
		d.line("- %s (%s): %s", r.Secret, r.Type, versionText(r))
	}
	if len(t.Results) == 0 {
		d.line("- none")
	}
	t.changes(&d)
	d.line("\n## Verification Results")
	t.verification(&d, now, latencies)
	d.line("\n## Issues and Resolutions")
	t.issues(&d)
	if len(t.later) > 0 {
		d.line("\n## What Followed")
		for _, rec := range t.later {
			d.line("- %s: %s", rec.Started.UTC().Format(time.RFC3339), followedText(rec))
		}
	}
	if t.Note == nil { // to which nobody adds a note
		d.line("\n## Next Steps")
		t.nextSteps(&d)
	}
	d.line("\nEntry %d of this history, SHA-256 %s", t.entry.Sequence, t.entry.Hash)
	return d.String()
}

func (t *Timeline) event(d *document, subject string) {
	d.line("## Rotation Event")
	d.line("- Date: %s", t.Started.UTC().Format(time.RFC3339))
	d.line("- Operation: %s", t.Kind)
	d.line("- %s: %s", subject, plain(t.Role))
	d.line("- Outcome: %s", outcomeText(t.Outcome))
	if t.Kind == rotation.KindDelete {
		d.line("- Secrets deleted: %s", orText(strings.Join(t.Secrets, ", "), "none"))
	}
	d.line("- Rotation ID: %s", t.ID)
	d.line("- Trigger: %s", t.Trigger)
	if t.Follows != "" {
		d.line("- %s: %s", followsText(t.Kind), t.followed())
	}
	d.line("- Performed by: %s", performer(t.Record))
	d.line("- Vault request: %s", orText(plain(t.RequestID), "none"))
	d.line("- Reason: %s", orText(plain(t.Reason), "none given"))
	d.line("- Environment: %s", orText(plain(t.Environment), "not labelled"))
	d.line("- Duration: %s", time.Duration(t.DurationMS)*time.Millisecond)
	d.line("- Version after: %d", t.Version)
}

// followsText says what an operation of a kind is to the one that it follows.
func followsText(kind rotation.Kind) string {
	if kind == rotation.KindRollback {
		return "Rolls back"
	}
	return "Belongs to"
}

// followed is the operation that this one follows, as far as its record says.
func (t *Timeline) followed() string {
	text := t.Follows
	if t.FollowsKind != "" {
		text = string(t.FollowsKind) + " " + text
	}
	if t.FollowsTrigger != "" {
		text += "; trigger: " + string(t.FollowsTrigger)
	}
	return text
}

// changes lists the changed fields of the configuration.
func (t *Timeline) changes(d *document) {
	if len(t.Changes) == 0 {
		return
	}
	d.line("\n## Configuration Changes")
	for _, c := range t.Changes {
		d.line("- %s: %s → %s", plain(c.Field), valueText(c.From), valueText(c.To))
	}
}

// valueText writes a value of a configuration.
func valueText(value any) string {
	if value == nil {
		return "…"
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "…"
	}
	return plain(string(text))
}

// issues says what went wrong, and what was done about it by the engine and by people.
func (t *Timeline) issues(d *document) {
	notes := t.notesOf(rotation.NoteResolution)
	for _, issue := range t.Issues {
		d.line("- %s", plain(issue))
	}
	switch {
	case t.Outcome == rotation.OutcomeRolledBack:
		d.line("- Resolution: the engine undid its changes and verified that the earlier values work; applications kept them")
	case t.Outcome == rotation.OutcomeFailed:
		d.line("- Resolution: this operation resolved nothing; applications kept their values. If an issue above says that a secret is unresolved, its database may refuse the value that applications have")
	case t.undone() != nil:
		d.line("- Resolution: the role was rolled back to the earlier values, as version %d", t.undone().Version)
	case len(t.Issues)+len(notes) == 0:
		d.line("- none")
	}
	for _, note := range notes {
		d.line("- %s", note)
	}
}

// undone is the rollback that took back what the operation did, nil if none has.
func (t *Timeline) undone() *rotation.Record {
	for i := range t.later {
		if rec := &t.later[i]; rec.Kind == rotation.KindRollback && rec.Outcome == rotation.OutcomeCompleted {
			return rec
		}
	}
	return nil
}

// followedText is a later record in one line.
func followedText(rec rotation.Record) string {
	text := fmt.Sprintf("%s: %s", rec.Kind, outcomeText(rec.Outcome))
	if replaces(rec) {
		text += fmt.Sprintf(", version %d", rec.Version)
	}
	text += fmt.Sprintf("; rotation ID: %s; trigger: %s; performed by: %s", rec.ID, rec.Trigger, performer(rec))
	if rec.Reason != "" {
		text += "; reason: " + plain(rec.Reason)
	}
	for _, issue := range rec.Issues {
		text += "; issue: " + plain(issue)
	}
	return text
}

// nextSteps says when the next rotation is, and who does it. People fill in the other
// lines, by notes.
func (t *Timeline) nextSteps(d *document) {
	responsible := "the engine"
	if t.NextRotation.IsZero() {
		responsible = "(no automatic rotation; " + t.toFillIn(rotation.NoteResponsible) + ")"
	}
	d.line("- Next rotation: %s", nextText(t.NextRotation))
	t.filledIn(d, "Responsible", rotation.NoteResponsible, responsible)
	t.filledIn(d, "Update rotation procedures", rotation.NoteProcedures, "("+t.toFillIn(rotation.NoteProcedures)+")")
	t.filledIn(d, "Team training", rotation.NoteTraining, "("+t.toFillIn(rotation.NoteTraining)+")")
	for _, note := range t.notesOf(rotation.NoteNextStep) {
		d.line("- %s", note)
	}
}

// markup is what makes HTML, links, images and code of a text.
var markup = strings.NewReplacer(`\`, `\\`, "<", "&lt;", "[", `\[`, "`", "\\`")

// plain keeps what people wrote from changing the shape of the document, and from
// being more than text in it.
func plain(text string) string { return markup.Replace(Visible(text)) }

// Visible returns a text in one line, without controls and other invisible characters.
func Visible(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, text)
	return strings.Join(strings.Fields(text), " ")
}

func orText(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

// performer names who asked for the operation, or says that the engine began it.
func performer(rec rotation.Record) string {
	who := plain(rotation.SetApart(Visible(rec.Actor.DisplayName)))
	switch {
	case who != "":
	case rec.Trigger == rotation.TriggerManual:
		who = "unknown (token without display name)"
	default:
		who = "the engine"
	}
	if rec.Actor.EntityID != "" {
		who += ", entity " + rec.Actor.EntityID
	}
	return who
}

func outcomeText(o rotation.Outcome) string {
	if o == rotation.OutcomeCompleted {
		return "✅ completed"
	}
	return "❌ " + strings.ReplaceAll(string(o), "_", " ")
}

func versionText(r rotation.SecretResult) string {
	if r.To == 0 || r.From == r.To {
		return r.Versions()
	}
	return "✅ " + r.Versions()
}

func nextText(next time.Time) string {
	if next.IsZero() {
		return "not scheduled"
	}
	return "scheduled for " + timeText(next)
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339) }
