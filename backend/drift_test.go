package backend

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/drift"
)

// tryLogins tries everything that is stored, at once.
func (m *mount) tryLogins() {
	m.Helper()
	for _, r := range m.b.registry.Loaded() {
		for _, one := range drift.Logins(r, "") {
			_, _ = m.b.drift.Check(m.Context(), one)
		}
	}
}

// TestDriftIsConfigured has values that would not be kept to.
func TestDriftIsConfigured(t *testing.T) {
	m := newMount(t)
	if c := m.read("config", nil); c["probe_interval"] != int64(3600) || c["on_drift"] != "report" {
		t.Errorf("the defaults are %v and %v", c["probe_interval"], c["on_drift"])
	}
	for field, values := range map[string][]any{"probe_interval": {59, 0, -1, "31d"}, "on_drift": {"mend", ""}} {
		for _, value := range values {
			m.refused(logical.UpdateOperation, "config", d(field, value), field)
		}
	}
	m.write("config", d("probe_interval", "30m", "on_drift", "repair"))
	m.boot()
	if c := m.read("config", nil); c["probe_interval"] != int64(1800) || c["on_drift"] != "repair" {
		t.Errorf("it is %v and %v", c["probe_interval"], c["on_drift"])
	}
}
