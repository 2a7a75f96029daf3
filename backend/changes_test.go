package backend

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/audit"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// lastChanges are those of the newest record of role r, as JSON.
func (m *mount) lastChanges() string {
	m.Helper()
	rec := m.lastRecord()
	if rec["kind"] != "configure" {
		return fmt.Sprint(rec["kind"])
	}
	text, err := json.Marshal(rec["changes"])
	if err != nil {
		m.Fatal(err)
	}
	return string(text)
}

// TestChangesAreRecorded writes about a role what gates its rotations and decides what
// its secrets are: each change has an entry, without anything that may be secret.
func TestChangesAreRecorded(t *testing.T) {
	m := newMount(t)
	const marker = "MARKER"
	m.write("config", d("outbound_hosts", "127.0.0.1"))
	for _, c := range []struct {
		op   logical.Operation
		path string
		data map[string]any
		want string
	}{
		{logical.UpdateOperation, "roles/r", nil, `[{"field":"auto_rotate","from":false,"to":true},{"field":"exists","from":false,"to":true}]`},
		{logical.UpdateOperation, "secrets/r/jwt", d("type", "jwt", "denied_claims", "admin"), "create"},
		{logical.UpdateOperation, "roles/r", d("overlap", "2h"), `[{"field":"overlap","from":0,"to":7200}]`},
		{logical.UpdateOperation, "roles/r", d("overlap", "2h"), `[{"field":"overlap","from":0,"to":7200}]`},
		{logical.UpdateOperation, "secrets/r/jwt", d("denied_claims", ""), `[{"field":"secrets/jwt.denied_claims","from":["admin"],"to":null}]`},
		{logical.UpdateOperation, "checks/r/health", d("url", "http://127.0.0.1:1/"+marker, "headers", "X-Key: "+marker, "body", marker, "on_failure", "alert"), ""},
		{
			logical.UpdateOperation, "checks/r/health",
			d("url", "http://127.0.0.1:2/"+marker, "headers", "X-Other: "+marker, "body", marker, "expected_body", marker, "delay", "10s", "on_failure", "rollback"),
			`[{"field":"checks/health.delay","from":null,"to":10},{"field":"checks/health.expected_body","from":null,"to":null},{"field":"checks/health.headers","from":null,"to":null},{"field":"checks/health.on_failure","from":"alert","to":"rollback"},{"field":"checks/health.url","from":"http://127.0.0.1:1","to":"http://127.0.0.1:2"}]`,
		},
		{logical.DeleteOperation, "checks/r/health", nil, ""},
	} {
		if _, err := m.try(c.op, c.path, c.data); err != nil {
			t.Fatal(err)
		}
		if got := m.lastChanges(); c.want != "" && got != c.want {
			t.Errorf("%s of %s with %v is recorded as %s, want %s", c.op, c.path, c.data, got, c.want)
		}
	}
	if got := m.lastChanges(); !strings.Contains(got, `{"field":"checks/health.url","from":"http://127.0.0.1:2","to":null}`) {
		t.Errorf("a check that is gone is recorded as %s", got)
	}
	rec := m.lastRecord()
	if actor := rec["actor"].(map[string]any); actor["entity_id"] != "entity-test" || rec["vault_request_id"] == "" {
		t.Errorf("it does not say who: %v", rec)
	}
	h := m.read("history/r", nil)
	if h["count"] != 7 || h["chain_valid"] != true {
		t.Errorf("the history is %v", h)
	}
	for key, value := range m.storage.contents(t) {
		if strings.HasPrefix(key, historyPrefix) && strings.Contains(value, marker) {
			t.Errorf("%s holds what may be secret: %s", key, value)
		}
	}
}

// TestChangesKeepWhatAnswers: however much is written about a role, a request that is
// delivered again is told what it has done, and the state does not grow.
func TestChangesKeepWhatAnswers(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/pin", d("type", "random"))
	req := m.request(logical.UpdateOperation, "rotate/r", nil)
	first := m.must(m.send(req))
	for i := range 50 {
		m.write("roles/r", d("max_retries", i+1))
	}
	travelling := func() int {
		r, err := m.b.findRole(t.Context(), "r")
		if err != nil {
			t.Fatal(err)
		}
		return len(r.Snapshot().Outbox)
	}
	if n := travelling(); n > 3 {
		t.Errorf("%d entries travel in the state after the changes", n)
	}
	m.clock.advance(25 * time.Hour) // the end of the overlap, which adds an entry of no request
	m.tick(0)
	m.overlapOver("pin")
	again := m.must(m.b.HandleRequest(t.Context(), req))
	if again["rotation_id"] != first["rotation_id"] || m.read("status/r", nil)["version"] != 2 {
		t.Errorf("delivered again it is %v, want %v", again, first)
	}
	if n := travelling(); n > 3 {
		t.Errorf("%d entries travel in the state after the overlap", n)
	}
}

// TestPlainFieldsAreFields finds a field that is recorded with its value and that no
// path has any more.
func TestPlainFieldsAreFields(t *testing.T) {
	known := newBackend(time.Now, registeredTypes).types.fields()
	maps.Copy(known, checkSchema())
	for _, name := range append([]string{"url"}, append(audit.PlainFields, audit.Durations...)...) {
		if known[name] == nil {
			t.Errorf("%s is no field", name)
		}
	}
	everything := &rotation.State{Policy: rotation.Policy{
		Period: time.Hour, Schedule: "x", Window: time.Hour, AutoRotate: true, Overlap: time.Hour, RefreshInterval: time.Hour, MaxRetries: 1, RetryInterval: time.Hour,
	}, Destinations: []string{"x"}}
	for _, change := range audit.Changes(&rotation.State{Deleted: true}, everything) {
		if change.Field != "exists" && roleFields()[change.Field] == nil {
			t.Errorf("%s is no field of a role", change.Field)
		}
	}
}
