package backend

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// TestPartsLeaveOtherOverlapsAlone rotates, rolls back and revokes one secret, and
// expects the overlap of every other to be as it was.
func TestPartsLeaveOtherOverlapsAlone(t *testing.T) {
	for _, step := range []struct {
		operation string
		data      map[string]any
		parts     []string
	}{
		{"rotate/r", d("secrets", "key"), []string{"key"}},
		{"rotate/r", d("secrets", "key", "revoke_previous", true), []string{"key"}},
		{"rollback/r", d("secrets", "key"), []string{"key"}},
		{"rollback/r", d("secrets", "key", "revoke_previous", true), []string{"key"}},
		{"rotate/r", d("secrets", "two"), []string{"two"}},
		{"rotate/r", d("secrets", "two", "revoke_previous", true), []string{"two"}},
		{"rollback/r", d("secrets", "two"), []string{"two"}},
		{"rollback/r", d("secrets", "one,two"), []string{"one", "two"}},
	} {
		t.Run(fmt.Sprint(step.operation, step.data), func(t *testing.T) {
			m := newMount(t)
			s := m.connect()
			m.write("roles/r", d("overlap", "1h"))
			m.write("secrets/r/key", d("type", "api_key"))
			m.write("secrets/r/other", d("type", "api_key"))
			s.orders()
			m.write("roles/r", d("rotation_period", "10h")) // so that nothing rotates when the overlaps end
			m.clock.advance(10 * time.Minute)
			before, offered := m.previousStages(step.parts), m.read("creds/r", d("stage", "previous"))
			m.write(step.operation, step.data)
			if after := m.previousStages(step.parts); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("the other overlaps are %v, and were %v", after, before)
			}
			m.offersAsBefore(offered, step.parts)
			m.clock.advance(51 * time.Minute)
			m.tick(0)
			m.overlapOver("other")
		})
	}
}

// previousStages are those of all secrets but the parts.
func (m *mount) previousStages(parts []string) map[string]any {
	m.Helper()
	found := map[string]any{}
	for _, name := range []string{"one", "two", "key", "other", "jwt"} {
		if stage := m.stage(name, "previous"); !slices.Contains(parts, name) {
			found[name] = fmt.Sprint(stage["version"], stage["created"], stage["retire_time"], stage["valid"])
		}
	}
	return found
}

// offersAsBefore uses the previous values of all secrets but the parts.
func (m *mount) offersAsBefore(offered map[string]any, parts []string) {
	m.Helper()
	if !slices.Contains(parts, "two") {
		if err := logIn(m.T, offered["two_username"], offered["two_password"]); err != nil {
			m.Errorf("the previous login: %v", err)
		}
	}
	for _, name := range []string{"key", "other"} {
		if slices.Contains(parts, name) {
			continue
		}
		answer := m.must(m.try(logical.UpdateOperation, "api-key/r/"+name+"/verify", d("key", offered[name+"_key"])))
		if answer["stage"] != "previous" {
			m.Errorf("the previous key of %s is answered %v", name, answer)
		}
	}
}
