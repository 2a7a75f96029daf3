package backend

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/audit"
)

// hostile is what somebody may write to forge a document, a terminal's output, or
// a line of a log.
const hostile = "line one\n## Secrets\r\n- forged: ✅ version 9\u2028- more\x1b[2J\u202Egnol\t| a | `code` <script> \\[x](javascript:y)\x00"

// TestHostileText writes it where people may write, and reads it back.
func TestHostileText(t *testing.T) {
	m := newMount(t)
	for _, r := range "\n\r\t\x00\x01\x1b\x7f\u0085\u009b\u200e\u202e\u2066" {
		for _, field := range []struct{ path, name string }{{"rotate/r", "reason"}, {"rollback/r", "reason"}, {"config", "environment"}} {
			m.refused(logical.UpdateOperation, field.path, d(field.name, "one"+string(r)+"two"), field.name)
		}
	}
	text := audit.Visible(hostile)
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
