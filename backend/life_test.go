package backend

import (
	"strings"
	"testing"
)

func TestRoleLife(t *testing.T) {
	m := newMount(t)
	m.write("roles/default", map[string]any{"rotation_period": "1h"})
	m.write("secrets/default/jwt", map[string]any{"type": "jwt"})
	first := m.write("secrets/default/api_key", map[string]any{"type": "api_key", "prefix": "orders"})
	if first["status"] != "completed" || first["version"] != 2 {
		t.Fatalf("creating a secret answered %v", first)
	}
	before := m.read("creds", nil)
	rotated := m.write("rotate", map[string]any{"reason": "test"})
	if rotated["status"] != "completed" || rotated["version"] != 3 {
		t.Fatalf("rotate answered %v", rotated)
	}
	after := m.read("creds", nil)
	if after["jwt_secret"] == before["jwt_secret"] || after["jwt_previous_secret"] != before["jwt_secret"] {
		t.Error("after a rotation, the secret before is not the previous one")
	}
	m.write("rollback", nil)
	if back := m.read("creds", nil); back["jwt_secret"] != before["jwt_secret"] || back["version"] != 4 {
		t.Error("a rollback does not give the values from before, as a new version")
	}
	h := m.read("history/default", nil)
	if h["chain_valid"] != true || h["count"] != 5 {
		t.Errorf("history is %v", h)
	}
	if ids := m.list("history/default"); len(ids) != 5 {
		t.Errorf("history lists %d entries, want 5", len(ids))
	}
	rec := m.read("history/default/"+rotated["rotation_id"].(string), map[string]any{"format": "markdown"})
	if text := rec["markdown"].(string); !strings.Contains(text, "Reason: test") {
		t.Errorf("the record is %s", text)
	}
}
