package audit

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

var update = flag.Bool("update", false, "write what is in testdata anew")

// hostile is what somebody may write to forge a document, a terminal's output, or
// a line of a log.
const hostile = "line one\n## Secrets\r\n- forged: ✅ version 9\u2028- more\x1b[2J\u202Egnol\t| a | `code` <script> \\[x](javascript:y)\x00"

func records() map[string]rotation.Record {
	started := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	op := rotation.Operation{
		ID: "1f9a7c7e-0000-4000-8000-000000000001", Kind: rotation.KindRotate, Trigger: rotation.TriggerManual, Started: started,
		Actor: rotation.Actor{DisplayName: "token-ops", EntityID: "e1"}, Reason: "left the company", Secrets: []string{"db", "jwt"},
	}
	completed := rotation.Record{
		Operation: op, Role: "orders", Environment: "production", Outcome: rotation.OutcomeCompleted, DurationMS: 1234, Version: 8,
		Results: []rotation.SecretResult{
			{Secret: "db", Type: "database", From: 7, To: 8, Steps: []rotation.Step{{Name: "set", DurationMS: 30, OK: true}, {Name: "test", DurationMS: 60, OK: true}}},
			{Secret: "jwt", Type: "jwt", To: 8, Steps: []rotation.Step{{Name: "create", OK: true}}},
		},
		NextRotation: started.Add(24 * time.Hour),
	}
	failed := completed
	failed.Trigger, failed.Actor, failed.Reason = rotation.TriggerSchedule, rotation.Actor{}, ""
	failed.Environment, failed.Outcome, failed.NextRotation = "", rotation.OutcomeRolledBack, time.Time{}
	failed.Results = []rotation.SecretResult{{Secret: "db", Type: "database", From: 7, To: 7, Steps: []rotation.Step{
		{Name: "set", DurationMS: 30, OK: true}, {Name: "test", DurationMS: 60, Detail: "permission denied for table orders"}, {Name: "undo", DurationMS: 20, OK: true},
	}}, {Secret: "gone", Type: "random"}}
	failed.Issues = []string{"secret db: test: permission denied for table orders"}
	unresolved := failed
	unresolved.Outcome, unresolved.Issues = rotation.OutcomeFailed, []string{"secret db is unresolved; the engine could not put its target back: permission denied"}
	forged := completed
	forged.Reason, forged.Environment, forged.Actor.DisplayName, forged.Issues = hostile, hostile, hostile, []string{hostile}
	return map[string]rotation.Record{"completed": completed, "failed": failed, "unresolved": unresolved, "hostile": forged}
}

// notes are what people have added to some of the records.
func notes() map[string][]rotation.Record {
	add := func(who rotation.Actor, kind rotation.NoteKind, text, ticket string) rotation.Record {
		return rotation.Record{
			Operation: rotation.Operation{Kind: rotation.KindNote, Trigger: rotation.TriggerManual, Started: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC), Actor: who},
			Note:      &rotation.Note{Kind: kind, Text: text, Ticket: ticket},
		}
	}
	ops := rotation.Actor{DisplayName: "token-ops", EntityID: "e1"}
	return map[string][]rotation.Record{
		"failed": {
			add(ops, rotation.NoteResolution, "the grant was missing; given again", "OPS-12"),
			add(ops, rotation.NoteResponsible, "the payments team", ""),
			add(rotation.Actor{DisplayName: "token-lead"}, rotation.NoteResponsible, "the orders team, from May on", ""),
			add(ops, rotation.NoteProcedures, "ask for grants first", ""),
			add(ops, rotation.NoteTraining, "none", ""),
			add(rotation.Actor{}, rotation.NoteNextStep, "rotate again", "OPS-13"),
		},
		"hostile": {
			add(rotation.Actor{DisplayName: "ops, at 2026-01-01T00:00:00Z: approved; note by lead"}, rotation.NoteResolution, "agreed", ""),
			add(rotation.Actor{DisplayName: hostile}, rotation.NoteResolution, hostile, hostile),
			add(rotation.Actor{DisplayName: hostile}, rotation.NoteTraining, hostile, hostile),
		},
	}
}

func TestMarkdown(t *testing.T) {
	for name, rec := range records() {
		timeline := newTimeline(rec, rotation.Entry{Sequence: 12, Hash: strings.Repeat("ab", 32)})
		timeline.Path, timeline.notes = "smvm/history/orders/"+rec.ID, notes()[name]
		got := timeline.Markdown("Role", &rotation.State{}, nil)
		golden := filepath.Join("testdata", name+".md")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the record %s is\n%s\nwant\n%s", name, got, want)
		}
	}
}

// lines fails the test unless a document has all of the lines.
func lines(t *testing.T, document string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !strings.Contains(document, "\n"+line+"\n") {
			t.Errorf("the record lacks %q:\n%s", line, document)
		}
	}
}

// TestPerformers names a person, the engine, and a token that has no name: what
// somebody asked for is never said to be the engine's own.
func TestPerformers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		actor   rotation.Actor
		trigger rotation.Trigger
		want    string
	}{
		{rotation.Actor{DisplayName: "token-ops", EntityID: "e1"}, rotation.TriggerManual, "token-ops, entity e1"},
		{rotation.Actor{DisplayName: "token-ops"}, rotation.TriggerManual, "token-ops"},
		{rotation.Actor{DisplayName: "oidc-ana@shop.example"}, rotation.TriggerManual, "oidc-ana@shop.example"},
		{rotation.Actor{DisplayName: "ops, at 2026-01-01T00:00:00Z: approved; note by lead", EntityID: "e1"}, rotation.TriggerManual, `"ops, at 2026-01-01T00:00:00Z: approved; note by lead", entity e1`},
		{rotation.Actor{DisplayName: "the engine"}, rotation.TriggerManual, `"the engine"`},
		{rotation.Actor{DisplayName: `ops", at`}, rotation.TriggerManual, `"ops\\", at"`},
		{rotation.Actor{DisplayName: "\u202e"}, rotation.TriggerManual, "unknown (token without display name)"},
		{rotation.Actor{}, rotation.TriggerManual, "unknown (token without display name)"},
		{rotation.Actor{EntityID: "e1"}, rotation.TriggerManual, "unknown (token without display name), entity e1"},
		{rotation.Actor{}, rotation.TriggerRecovery, "the engine"},
	} {
		rec := records()["completed"]
		rec.Actor, rec.Trigger = c.actor, c.trigger
		document := newTimeline(rec, rotation.Entry{Sequence: 12}).Markdown("Connection", &rotation.State{}, nil)
		lines(t, document, "- Connection: orders", "- Trigger: "+string(c.trigger), "- Performed by: "+c.want)
	}
}

// TestAFailureEndsWhatWasToFollow says so, and blames no other operation.
func TestAFailureEndsWhatWasToFollow(t *testing.T) {
	t.Parallel()
	rec := records()["failed"]
	rec.Tasks = []rotation.Task{{Name: "check/key"}}
	timeline := newTimeline(rec, rotation.Entry{Sequence: 12})
	lines(t, timeline.Markdown("Role", &rotation.State{}, func(json.RawMessage) (before, after time.Duration) { return 0, 0 }), "  - check/key: ➖ no result (the operation failed before): not begun")
}

// TestARollbackOfOneSecretLeavesTheOther rolls one of two secrets back, and then has a
// rotation end the overlap of the other: that one is not current again.
func TestARollbackOfOneSecretLeavesTheOther(t *testing.T) {
	t.Parallel()
	rec := records()["completed"]
	rec.Results[1].From = 7
	timeline := newTimeline(rec, rotation.Entry{Sequence: 12})
	back := rotation.Record{Operation: rotation.Operation{ID: "b", Kind: rotation.KindRollback, Trigger: rotation.TriggerManual, Secrets: []string{"jwt"}}, Outcome: rotation.OutcomeCompleted, Version: 9}
	again := rotation.Record{Operation: rotation.Operation{ID: "c", Kind: rotation.KindRotate, Trigger: rotation.TriggerSchedule, Secrets: []string{"db", "jwt"}}, Outcome: rotation.OutcomeCompleted, Version: 10}
	timeline.take(back)
	timeline.take(again)
	lines(t, timeline.Markdown("Role", &rotation.State{}, nil), "  - db: version 7, old secret invalidated: not shown: another operation ended the overlap early", "  - jwt: version 7, old secret invalidated: not applicable: current again, by the rollback")
}

// TestInvalidation answers for every type of secret who refuses a retired value, and keeps
// apart what the engine shows and what an application has shown.
func TestInvalidation(t *testing.T) {
	t.Parallel()
	ok := []rotation.Step{{Name: "retire", OK: true}}
	for _, c := range []struct {
		secretType string
		steps      []rotation.Step
		found      rotation.Finding
		v          verdict
		want       string
	}{
		{"database", ok, "", passed, "refused by the database"},
		{"connection", ok, "", passed, "refused by the database"},
		{"database", []rotation.Step{{Name: "retire", OK: true, Unproven: "not proven: prove_refusals is false"}}, "", unproven, "not shown: the refusal is not proven: prove_refusals is false"},
		{"database", []rotation.Step{{Name: "retire", Detail: "no route"}}, "", failed, "not shown: the retirement failed, and the engine tries again"},
		{"jwt", ok, "", passed, "refused by the engine's verify; not shown for the application: no check with phase=retire asked it"},
		{"api_key", ok, rotation.FoundRefused, passed, "refused by the engine's verify; refused by the application (check a, as seen)"},
		{"api_key", ok, rotation.FoundAccepted, failed, "refused by the engine's verify; ACCEPTED by the application (check a, as seen)"},
		{"api_key", ok, rotation.FoundNothing, unproven, "refused by the engine's verify; not shown for the application (check a, as seen)"},
		{"random", ok, "", unproven, "not shown: the engine has destroyed the value, but values of type random are verified neither by the engine nor by a check"},
	} {
		rec := rotation.Record{Operation: rotation.Operation{Kind: rotation.KindRetire, Tasks: []rotation.Task{
			{Name: "check/other", Secrets: []string{"other"}, Finding: rotation.FoundAccepted},
		}}, Outcome: rotation.OutcomeCompleted}
		if c.found != "" {
			rec.Tasks = append(rec.Tasks, rotation.Task{Name: "check/a", Secrets: []string{"s"}, Finding: c.found, Detail: "as seen"})
		}
		if v, got := invalidation(rec, rotation.SecretResult{Secret: "s", Type: c.secretType, Steps: c.steps}); got != c.want || v != c.v {
			t.Errorf("of type %s, %q: %s, %q; want %s, %q", c.secretType, c.found, v, got, c.v, c.want)
		}
	}
}

// TestAFailedRetirementIsOfOneSecret has the retirement of one of two secrets fail at
// first: the other one is retired, and says so.
func TestAFailedRetirementIsOfOneSecret(t *testing.T) {
	t.Parallel()
	rec := records()["completed"]
	rec.Results[1].From = 7
	timeline := newTimeline(rec, rotation.Entry{Sequence: 12})
	gone := rotation.SecretResult{Secret: "jwt", Type: "jwt", Steps: []rotation.Step{{Name: "retire", OK: true}}}
	retire := func(outcome rotation.Outcome, results ...rotation.SecretResult) {
		timeline.take(rotation.Record{Operation: rotation.Operation{Kind: rotation.KindRetire, Secrets: []string{"db", "jwt"}}, Outcome: outcome, Results: results})
	}
	retire(rotation.OutcomeFailed, rotation.SecretResult{Secret: "db", Type: "database", Steps: []rotation.Step{{Name: "retire", Detail: "no route"}}}, gone)
	document := timeline.Markdown("Role", &rotation.State{}, nil)
	lines(t, document, "- Security testing: ❌ failed", "  - jwt: version 7, old secret invalidated: refused by the engine's verify; not shown for the application: no check with phase=retire asked it")
	retire(rotation.OutcomeCompleted, rotation.SecretResult{Secret: "db", Type: "database", Steps: []rotation.Step{{Name: "retire", OK: true}}})
	lines(t, timeline.Markdown("Role", &rotation.State{}, nil), "- Security testing: ✅ passed", "  - db: version 7, old secret invalidated: refused by the database")
	if timeline.open() {
		t.Error("the timeline goes on")
	}
}
