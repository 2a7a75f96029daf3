package backend

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
)

// TestADeletionTellsWhatStays deletes a secret and a role: the answer and the record both
// name the users that PostgreSQL keeps.
func TestADeletionTellsWhatStays(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	first, second := s.pair(), s.pair()
	m.write("roles/hr", nil)
	for name, users := range map[string]any{"db": first, "other": second} {
		m.write("secrets/hr/"+name, d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", users))
	}
	m.write("secrets/hr/pin", d("type", "random"))
	told := func(path, words string) string {
		t.Helper()
		m.warns(logical.DeleteOperation, path, nil, words)
		at := m.record("history/hr/ID")
		if issues := fmt.Sprint(m.read(at, nil)["issues"]); !strings.Contains(issues, words) {
			t.Errorf("the record of the deletion of %s has the issues %s, without %q", path, issues, words)
		}
		return m.read(at, d("format", "markdown"))["markdown"].(string)
	}
	told("secrets/hr/other", "secret other: PostgreSQL keeps the users ")
	for _, line := range []string{"- Secrets deleted: db, pin", "- secret db: PostgreSQL keeps the users "} {
		if text := told("roles/hr", "secret db: PostgreSQL keeps the users "); !strings.Contains(text, "\n"+line) {
			t.Errorf("the record lacks %q: %s", line, text)
		}
		m.write("roles/hr", nil)
		m.write("secrets/hr/pin", d("type", "random"))
		m.write("secrets/hr/db", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", first))
	}
}

// TestHistoriesOfDeletedRolesAreFound lists the roles that have a history.
func TestHistoriesOfDeletedRolesAreFound(t *testing.T) {
	m := newMount(t)
	if names := m.list("history"); len(names) != 0 {
		t.Errorf("there are histories of %q", names)
	}
	for _, name := range []string{"payroll", "default"} {
		m.write("roles/"+name, nil)
		m.write("secrets/"+name+"/pin", d("type", "random"))
	}
	m.delete("roles/payroll")
	if err := m.storage.Put(t.Context(), &logical.StorageEntry{Key: entryKey(roles.Prefix+"lost", 1), Value: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	resp, err := m.try(logical.ListOperation, "history/", nil)
	data := m.must(resp, err)
	if names := data["keys"]; !slices.Equal(names.([]string), []string{"default", "lost", "payroll"}) {
		t.Errorf("the histories are those of %v", names)
	}
	info := data["key_info"].(map[string]any)
	for name, deleted := range map[string]bool{"default": false, "payroll": true} {
		count := m.read("history/"+name, nil)["count"]
		if about := info[name].(map[string]any); about["deleted"] != deleted || about["count"] != count {
			t.Errorf("of %s, the list says %v", name, about)
		}
	}
	if about := fmt.Sprint(info["lost"]); !strings.Contains(about, "but not role/lost") {
		t.Errorf("of a history without a role, the list says %s", about)
	}
}
