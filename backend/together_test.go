package backend

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
)

// TestConfigTogether writes different fields at the same time: none is lost.
func TestConfigTogether(t *testing.T) {
	m := newMount(t)
	var writing sync.WaitGroup
	fields := []string{"max_retries", "max_workers", "history_retention", "retry_interval"}
	for _, field := range fields {
		writing.Go(func() {
			for i := range 20 {
				m.write("config", d(field, 10+i))
			}
		})
	}
	writing.Wait()
	for field, value := range m.read("config", nil) {
		for _, written := range fields {
			if field == written && fmt.Sprint(value) != "29" {
				t.Errorf("%s is %v, and 29 was acknowledged", field, value)
			}
		}
	}
}

// TestDeletedTogether deletes the same things from many sides: each is deleted
// once, and what finds its role gone says so.
func TestDeletedTogether(t *testing.T) {
	m := newMount(t)
	for range 10 {
		m.write("roles/r", nil)
		m.write("secrets/r/pin", d("type", "random"))
		m.write("secrets/r/key", d("type", "api_key"))
		before := m.read("history/r", nil)["count"].(int)
		m.together("secrets/r/pin", nil)
		if after := m.read("history/r", nil)["count"].(int); after != before+1 {
			t.Fatalf("one secret has %d records of its deletion", after-before)
		}
		m.delete("secrets/r/key")
		m.together("roles/r", func() {
			resp, err := m.try(logical.UpdateOperation, "secrets/r/late", d("type", "random"))
			if err != nil && statusOf(err) != 409 {
				t.Error(err)
			} else if err == nil && resp.IsError() && !strings.Contains(resp.Error().Error(), "role") {
				t.Error(resp.Error())
			}
		})
		m.delete("secrets/r/late") // which may have come before the role went
		m.delete("roles/r")
		if r, err := m.b.registry.Get(t.Context(), roles.Prefix, "r"); err != nil || !r.Snapshot().Deleted || len(r.Snapshot().Secrets) != 0 {
			t.Fatalf("a deleted role has secrets, or cannot be read: %v", err)
		}
	}
}

// together deletes a path eight times at once, beside something else.
func (m *mount) together(path string, beside func()) {
	m.Helper()
	var deleting sync.WaitGroup
	if beside != nil {
		deleting.Go(beside)
	}
	for range 8 {
		deleting.Go(func() {
			if _, err := m.try(logical.DeleteOperation, path, nil); err != nil && statusOf(err) != 409 {
				m.Error(err)
			}
		})
	}
	deleting.Wait()
}

// TestRefusalShowsNoSecret gives secrets of a wrong type: the framework's own
// refusal would repeat them, for the audit log to keep.
func TestRefusalShowsNoSecret(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	const secret = "a-secret-that-nobody-may-see"
	for _, value := range []any{[]any{secret}, map[string]any{"a": secret}, []any{map[string]any{secret: secret}}} {
		for path, field := range map[string]string{"connections/c": "password", "secrets/r/x": "value", "secrets/r/y": "key"} {
			req := m.request(logical.CreateOperation, path, d(field, value))
			if _, _, err := m.b.HandleExistenceCheck(t.Context(), req); err != nil {
				t.Errorf("the existence check of %s says %v", path, err)
			}
			resp, err := m.b.HandleRequest(t.Context(), req)
			if err != nil || !resp.IsError() || strings.Contains(resp.Error().Error(), secret) {
				t.Errorf("%s with %s=%v answers %v, %v", path, field, value, resp, err)
			}
		}
	}
	long := d("rotation_window", strings.Repeat("x", maxFieldLength))
	if resp, err := m.try(logical.UpdateOperation, "roles/r", long); err != nil || !resp.IsError() || len(resp.Error().Error()) > maxRefusal+len("…") {
		t.Errorf("a refusal of what is too long: %v", err)
	}
	m.refused(logical.ReadOperation, "roles/"+strings.Repeat("x", maxPath), nil, "path", "the limit is 512")
}
