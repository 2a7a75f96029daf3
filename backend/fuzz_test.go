package backend

import (
	"encoding/json"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

// fuzzed are the requests that FuzzRequest makes; none waits for a server.
var fuzzed = []struct {
	op     logical.Operation
	path   string
	fields map[string]any
}{
	{logical.UpdateOperation, "config", nil},
	{logical.UpdateOperation, "roles/r", nil},
	{logical.UpdateOperation, "roles/new", nil},
	{logical.UpdateOperation, "connections/new", map[string]any{"host": "h", "database": "d", "username": "u", "password": "p", "verify_connection": false}},
	{logical.UpdateOperation, "connections/spare", map[string]any{"verify_connection": false}},
	{logical.UpdateOperation, "secrets/r/new", map[string]any{"type": "random"}},
	{logical.UpdateOperation, "secrets/r/new", map[string]any{"type": "jwt"}},
	{logical.UpdateOperation, "secrets/r/new", map[string]any{"type": "api_key"}},
	{logical.UpdateOperation, "secrets/r/new", nil},
	{logical.UpdateOperation, "secrets/r/pin", nil},
	{logical.UpdateOperation, "rotate/r", nil},
	{logical.UpdateOperation, "rollback/r", nil},
	{logical.ReadOperation, "creds/r", nil},
	{logical.ReadOperation, "creds/r/pin", nil},
	{logical.ReadOperation, "history/r/x", nil},
}

// FuzzRequest gives one field of a request any value: it is refused with a 400
// that changes nothing, or taken, and then everything can be read again after a
// restart.
func FuzzRequest(f *testing.F) {
	for which := range len(fuzzed) {
		for _, seed := range []string{`""`, `"x"`, `-1`, `1e99`, `null`, `true`, `["a","b"]`, `[[]]`, `{"a":1}`, `"9999999999999h"`} {
			f.Add(uint(which), uint(which), seed)
		}
	}
	f.Fuzz(func(t *testing.T, which, field uint, value string) {
		var decoded any
		if json.Unmarshal([]byte(value), &decoded) != nil {
			return
		}
		m := newMount(t)
		m.write("connections/spare", d("host", "h", "database", "d", "username", "u", "password", "p", "verify_connection", false))
		m.write("roles/r", nil)
		m.write("secrets/r/pin", d("type", "random"))
		request := fuzzed[which%uint(len(fuzzed))]
		fields := fieldNames(m.b.Route(request.path))
		name := fields[field%uint(len(fields))]
		if name == "verify_connection" || name == "wait" {
			return
		}
		before := m.storage.contents(t)
		resp, err := m.try(request.op, request.path, but(request.fields, name, decoded))
		switch {
		case err != nil && statusOf(err) != 422:
			t.Errorf("%s %s %s=%s: %v", request.op, request.path, name, value, err)
		case err == nil && resp.IsError():
			m.storage.same(t, before)
		}
		m.boot()
		m.read("config", nil)
		m.read("creds/r", nil)
		m.list("roles")
		if h := m.read("history/r", nil); h["chain_valid"] != true {
			t.Errorf("the history is %v", h)
		}
	})
}
