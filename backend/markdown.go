package backend

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// markdown renders a record as the one that the manual procedure asks for.
func markdown(rec rotation.Record, e rotation.Entry) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Secret Rotation Audit\n")
	line("## Rotation Event")
	line("- Date: %s", rec.Started.UTC().Format(time.RFC3339))
	line("- Operation: %s of role %s: %s", rec.Kind, plain(rec.Role), outcomeText(rec.Outcome))
	line("- Rotation ID: %s", rec.ID)
	line("- Performed by: %s", performer(rec))
	line("- Reason: %s", orText(plain(rec.Reason), "none given"))
	line("- Environment: %s", orText(plain(rec.Environment), "not labelled"))
	line("- Duration: %s", time.Duration(rec.DurationMS)*time.Millisecond)
	line("- Version after: %d\n", rec.Version)
	line("## Secrets")
	for _, r := range rec.Results {
		line("- %s (%s): %s", r.Secret, r.Type, versionText(r))
	}
	line("\n## Verification Results")
	for _, r := range rec.Results {
		for _, step := range r.Steps {
			line("- %s: %s: %s", r.Secret, step.Name, stepText(step))
		}
	}
	line("\n## Issues and Resolutions")
	for _, issue := range rec.Issues {
		line("- %s", plain(issue))
	}
	if len(rec.Issues) == 0 {
		line("- none")
	}
	line("\n## Next Steps")
	line("- Next rotation: %s\n", nextText(rec.NextRotation))
	line("Entry %d of this role's history, SHA-256 %s", e.Sequence, e.Hash)
	return b.String()
}

// plain keeps what people wrote from changing the shape of the document.
func plain(text string) string {
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

func stepText(step rotation.Step) string {
	if step.OK {
		return fmt.Sprintf("✅ passed (%d ms)", step.DurationMS)
	}
	return fmt.Sprintf("❌ %s (%d ms)", plain(step.Detail), step.DurationMS)
}

func nextText(next time.Time) string {
	if next.IsZero() {
		return "not scheduled"
	}
	return "scheduled for " + next.UTC().Format(time.RFC3339)
}
