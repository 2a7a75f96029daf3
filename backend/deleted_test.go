package backend

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestADeletionTellsWhatStays deletes a secret: the answer, the record and an alert all name
// the users that PostgreSQL keeps. A role goes when its secrets have gone, and that is told
// too, as it is of a connection.
func TestADeletionTellsWhatStays(t *testing.T) {
	m, r := newMount(t), newReceiver(t)
	s := m.connect()
	m.write("roles/hr", nil)
	m.write("secrets/hr/db", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", s.pair()))
	m.write("secrets/hr/pin", d("type", "random"))
	m.refused(logical.DeleteOperation, "roles/hr", nil, "role: hr has secrets: db, pin", "vault delete smvm/secrets/hr/db")
	m.clock.advance(time.Second)
	m.write("alerts/hook", d("type", "webhook", "url", r.URL+"/hook", "events", "deleted"))
	const keeps = "secret db: PostgreSQL keeps the users "
	m.warns(logical.DeleteOperation, "secrets/hr/db", nil, keeps, ", if they still exist, with the passwords they have")
	record := m.read(m.record("history/hr/ID"), d("format", "markdown"))["markdown"].(string)
	for _, line := range []string{"- Secrets deleted: db", "- " + keeps} {
		if !strings.Contains(record, "\n"+line) {
			t.Errorf("the record lacks %q: %s", line, record)
		}
	}
	m.receives(r, "deleted")
	m.deleteRole("hr")
	m.delete("connections/main")
	m.receives(r, "deleted", "deleted", "deleted", "deleted")
	told := map[string]bool{}
	for _, e := range r.events {
		told[e.Role+" "+e.Severity+" "+e.Message] = true
	}
	for _, want := range []string{"hr warning Secret pin was deleted", "hr warning The role was deleted", "connections/main warning The connection was deleted"} {
		if !told[want] {
			t.Errorf("the alerts are %v, without %q", told, want)
		}
	}
	if all := fmt.Sprint(told); !strings.Contains(all, "Secret db was deleted: "+keeps) {
		t.Errorf("the alerts are %s", all)
	}
}

// TestARoleThatCannotGoOnIsDeleted has an interrupted operation keep the secrets of a role
// from being deleted, whose server may never come back: then the role goes with them.
func TestARoleThatCannotGoOnIsDeleted(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/pin", d("type", "random"))
	r, err := m.b.findRole(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	s := r.Snapshot().Clone()
	if err := m.b.withoutSecrets(r)(s); err == nil {
		t.Error("a role with a secret may go")
	}
	s.InFlight = &rotation.Operation{ID: "lost", Kind: rotation.KindRotate, Secrets: []string{"pin", "db"}}
	if err := m.b.withoutSecrets(r)(s); err != nil {
		t.Errorf("a role that cannot go on: %v", err)
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
	m.deleteRole("payroll")
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
