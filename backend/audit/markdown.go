package audit

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// paper is what a record is written into, line by line.
type paper struct{ strings.Builder }

func (d *paper) line(format string, args ...any) { _, _ = fmt.Fprintf(d, format+"\n", args...) }

// Markdown renders a timeline as the record that the manual procedure asks for.
func (s *Timeline) Markdown(latencies Latencies) string {
	var d paper
	d.line("# Secret Rotation Audit\n")
	s.event(&d)
	d.line("\n## Secrets Rotated")
	for _, r := range s.Results {
		d.line("- %s (%s): %s", r.Secret, r.Type, versionText(r))
	}
	s.changes(&d)
	d.line("\n## Verification Results")
	s.verification(&d, latencies)
	d.line("\n## Issues and Resolutions")
	s.issues(&d)
	if len(s.later) > 0 {
		d.line("\n## What Followed")
		for _, rec := range s.later {
			d.line("- %s: %s", rec.Started.UTC().Format(time.RFC3339), followedText(rec))
		}
	}
	d.line("\n## Next Steps")
	s.nextSteps(&d)
	d.line("\nEntry %d of this role's history, SHA-256 %s", s.entry.Sequence, s.entry.Hash)
	return d.String()
}

func (s *Timeline) event(d *paper) {
	d.line("## Rotation Event")
	d.line("- Date: %s", s.Started.UTC().Format(time.RFC3339))
	d.line("- Operation: %s of role %s: %s", s.Kind, plain(s.Role), outcomeText(s.Outcome))
	d.line("- Rotation ID: %s", s.ID)
	d.line("- Performed by: %s", performer(s.Record))
	d.line("- Vault request: %s", orText(plain(s.RequestID), "none"))
	d.line("- Reason: %s", orText(plain(s.Reason), "none given"))
	d.line("- Environment: %s", orText(plain(s.Environment), "not labelled"))
	d.line("- Duration: %s", time.Duration(s.DurationMS)*time.Millisecond)
	d.line("- Version after: %d", s.Version)
}

// changes tells what was configured otherwise.
func (s *Timeline) changes(d *paper) {
	if len(s.Changes) == 0 {
		return
	}
	d.line("\n## What Was Changed")
	for _, c := range s.Changes {
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

// issues tells what went wrong, and what was done about it.
func (s *Timeline) issues(d *paper) {
	for _, issue := range s.Issues {
		d.line("- %s", plain(issue))
	}
	switch {
	case s.Outcome == rotation.OutcomeRolledBack:
		d.line("- Resolution: what had been changed was put back and checked; readers kept the values from before")
	case s.Outcome == rotation.OutcomeFailed:
		d.line("- Resolution: readers kept the values from before; the entries that follow tell what was done next")
	case s.undone() != nil:
		d.line("- Resolution: went back to the values from before, as version %d", s.undone().Version)
	case len(s.Issues) == 0:
		d.line("- none")
	}
}

// undone is the rollback that took back what the operation did, nil if none has.
func (s *Timeline) undone() *rotation.Record {
	for i := range s.later {
		if rec := &s.later[i]; rec.Kind == rotation.KindRollback && rec.Outcome == rotation.OutcomeCompleted {
			return rec
		}
	}
	return nil
}

// followedText tells a later record in a line.
func followedText(rec rotation.Record) string {
	text := fmt.Sprintf("%s %s by %s: %s", rec.Kind, rec.ID, performer(rec), outcomeText(rec.Outcome))
	if replaces(rec) {
		text += fmt.Sprintf(", version %d", rec.Version)
	}
	if rec.Reason != "" {
		text += "; " + plain(rec.Reason)
	}
	for _, issue := range rec.Issues {
		text += "; " + plain(issue)
	}
	return text
}

// nextSteps tells when the next rotation is and whose it is. The last two lines
// of the procedure's record are for people.
func (s *Timeline) nextSteps(d *paper) {
	d.line("- Next rotation: %s", nextText(s.NextRotation))
	if s.NextRotation.IsZero() {
		d.line("- Responsible: whoever rotates it by hand")
	} else {
		d.line("- Responsible: the engine itself (schedule)")
	}
	d.line("- Update rotation procedures: (for a person to fill in)")
	d.line("- Team training: (for a person to fill in)")
}

// markup is what makes HTML, links, images and code of a text.
var markup = strings.NewReplacer(`\`, `\\`, "<", "&lt;", "[", `\[`, "`", "\\`")

// plain keeps what people wrote from changing the shape of the document, and from
// being more than text in it.
func plain(text string) string { return markup.Replace(Visible(text)) }

// Visible is a text without what nobody sees, in one line.
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

// performer names who asked for the operation, or that nobody did.
func performer(rec rotation.Record) string {
	who := plain(rec.Actor.DisplayName)
	if rec.Actor.EntityID != "" {
		who += " (entity " + rec.Actor.EntityID + ")"
	}
	if who == "" {
		return fmt.Sprintf("the engine itself (%s)", rec.Trigger)
	}
	return fmt.Sprintf("%s (%s)", who, rec.Trigger)
}

func outcomeText(o rotation.Outcome) string {
	if o == rotation.OutcomeCompleted {
		return "✅ completed"
	}
	return "❌ " + strings.ReplaceAll(string(o), "_", " ")
}

func versionText(r rotation.SecretResult) string {
	switch {
	case r.To == 0:
		return "no value"
	case r.From == r.To:
		return fmt.Sprintf("version %d kept", r.To)
	case r.From == 0:
		return fmt.Sprintf("✅ version %d", r.To)
	}
	return fmt.Sprintf("✅ version %d → %d", r.From, r.To)
}

func nextText(next time.Time) string {
	if next.IsZero() {
		return "not scheduled"
	}
	return "scheduled for " + next.UTC().Format(time.RFC3339)
}
