package backend

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

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
	forged := completed
	forged.Reason, forged.Environment, forged.Actor.DisplayName, forged.Issues = hostile, hostile, hostile, []string{hostile}
	return map[string]rotation.Record{"completed": completed, "failed": failed, "hostile": forged}
}

func TestMarkdown(t *testing.T) {
	for name, rec := range records() {
		got := newStory(rec, rotation.Entry{Sequence: 12, Hash: strings.Repeat("ab", 32)}).markdown()
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

// TestHostileText writes it where people may write, and reads it back.
func TestHostileText(t *testing.T) {
	m := newMount(t)
	for _, r := range "\n\r\t\x00\x01\x1b\x7f\u0085\u009b\u200e\u202e\u2066" {
		for _, field := range []struct{ path, name string }{{"rotate/r", "reason"}, {"rollback/r", "reason"}, {"config", "environment"}} {
			m.refused(logical.UpdateOperation, field.path, d(field.name, "one"+string(r)+"two"), field.name)
		}
	}
	text := visible(hostile)
	m.write("config", d("environment", text))
	m.write("roles/r", nil)
	m.write("secrets/r/jwt", d("type", "jwt"))
	plainRecord := m.write("rotate/r", d("reason", "none"))
	req := m.request(logical.UpdateOperation, "rotate/r", d("reason", text+"\n"))
	req.DisplayName = hostile
	forged := m.must(m.send(req))
	m.write("rotate/r", nil) // so that both were followed by another
	lines := func(id any) int {
		document := m.read("history/r/"+id.(string), d("format", "markdown"))["markdown"].(string)
		for _, r := range "\r\x1b\u2028\u202e<" {
			if strings.ContainsRune(document, r) {
				t.Errorf("the record contains %q", r)
			}
		}
		return strings.Count(document, "\n")
	}
	if a, b := lines(plainRecord["rotation_id"]), lines(forged["rotation_id"]); a != b {
		t.Errorf("a record has %d lines, and with a hostile reason %d", a, b)
	}
	if rec := m.read("history/r/"+forged["rotation_id"].(string), nil); rec["reason"] != text || rec["environment"] != text {
		t.Error("the record does not keep what was written")
	} else if who := rec["actor"].(map[string]any)["display_name"]; who != text {
		t.Errorf("it was by %q", who)
	}
	for _, line := range strings.Split(m.said.text(), "\n") {
		if strings.HasPrefix(line, "- forged") || strings.HasPrefix(line, "## Secrets") {
			t.Error("the log has a forged line")
		}
	}
}
