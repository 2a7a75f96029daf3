package backend

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/settings"
)

// TestDamagedEntry has one role that cannot be read. It is named, it is never
// overwritten, and it is in nobody's way.
func TestDamagedEntry(t *testing.T) {
	for what, value := range map[string]string{
		"not JSON":      `{"schema": 1, "secrets": `,
		"future schema": `{"schema": 99, "secrets": {"jwt": {"name": "jwt", "type": "jwt"}}, "version": 3}`,
		"no schema":     `{}`,
		"no secret":     `{"schema": 1, "secrets": {"jwt": null}}`,
		"bad schedule":  `{"schema": 1, "policy": {"schedule": "when it rains", "auto_rotate": true}}`,
	} {
		t.Run(what, func(t *testing.T) {
			m := newMount(t)
			m.write("roles/good", d("rotation_period", "1h"))
			m.write("secrets/good/jwt", d("type", "jwt"))
			if err := m.storage.Put(t.Context(), &logical.StorageEntry{Key: "role/bad", Value: []byte(value)}); err != nil {
				t.Fatal(err)
			}
			m.boot()
			m.leavesDamaged("bad", value)
			m.connectsBeside("bad")
			m.tick(time.Hour)
			m.becomes("good", 2)
			if got := m.storage.contents(t)["role/bad"]; got != value {
				t.Errorf("the damaged entry is %s", got)
			}
			if !strings.Contains(m.said.text(), "some entries cannot be read and are left alone") {
				t.Error("the log does not mention it")
			}
			m.mended("bad")
		})
	}
}

func (m *mount) leavesDamaged(name, value string) {
	m.Helper()
	for _, list := range []string{"roles", "history"} {
		resp, err := m.try(logical.ListOperation, list, nil)
		if fmt.Sprint(m.must(resp, err)["keys"]) != "[bad good]" {
			m.Errorf("the list of %s is %v", list, resp.Data["keys"])
		}
		info := resp.Data["key_info"].(map[string]any)[name].(map[string]any)
		if text := fmt.Sprint(info["error"]); !strings.Contains(text, "role/"+name) {
			m.Errorf("its entry in the list of %s is %v", list, info)
		}
	}
	const update, read, remove = logical.UpdateOperation, logical.ReadOperation, logical.DeleteOperation
	for path, op := range map[string]logical.Operation{
		"roles/" + name: update, "secrets/" + name + "/jwt": update, "rotate/" + name: update, "rollback/" + name: update,
		"creds/" + name: read, "status/" + name: read, "verify/" + name: read, "history/" + name: read,
	} {
		m.fails(500, op, path, nil, "role/"+name)
	}
	m.fails(500, remove, "roles/"+name, nil, "role/"+name)
	m.refused(read, "creds/nope", nil, "there is: good")
	if got := m.storage.contents(m.T)["role/"+name]; got != value {
		m.Errorf("the damaged entry is %s", got)
	}
}

// connectsBeside makes, changes and moves a connection. It is not deleted: the damaged
// role may use it.
func (m *mount) connectsBeside(name string) {
	m.Helper()
	const update = logical.UpdateOperation
	m.write("connections/other", d("host", "192.0.2.1", "database", "orders", "username", "smvm", "password", "first-0123456789", "verify_connection", false, "allowed_roles", "good"))
	for _, change := range []map[string]any{
		d("max_open_connections", 2), d("host", "192.0.2.2"), d("allowed_roles", "good,x*"), d("username", "smvm2", "password", "second-0123456789"), d("rotation_period", "720h"),
	} {
		change["verify_connection"] = false
		resp, err := m.try(update, "connections/other", change)
		if m.must(resp, err); !strings.Contains(strings.Join(resp.Warnings, " "), "role/"+name) {
			m.Errorf("writing %v warns of %v", change, resp.Warnings)
		}
	}
	if kept := m.storage.contents(m.T)["connection/other"]; !strings.Contains(kept, "192.0.2.1") {
		m.Error("the earlier way, which values of the damaged role may have, is gone")
	}
	m.fails(500, logical.DeleteOperation, "connections/other", nil, "role/"+name)
	m.fails(500, update, "connections/other", d("host", "192.0.2.3", "password_authentication", "password", "password", "third-0123456789", "verify_connection", false), "role/"+name)
	m.fails(500, update, "secrets/good/db", d("type", "database", "connection", "other", "usernames", "a"), "role/"+name)
}

// mended restores the entry, as from a backup: no restart is needed.
func (m *mount) mended(name string) {
	m.Helper()
	good, err := m.storage.Get(context.Background(), "role/good")
	if err != nil {
		m.Fatal(err)
	}
	good.Key = "role/" + name
	if err := m.storage.Put(context.Background(), good); err != nil {
		m.Fatal(err)
	}
	m.tick(time.Minute)
	m.eventually("the mended role", func() bool {
		resp, err := m.try(logical.ReadOperation, "creds/"+name, nil)
		return err == nil && !resp.IsError()
	})
}

// TestDamagedConfig is about a mount whose configuration cannot be read: going on
// with the defaults would end overlaps early.
func TestDamagedConfig(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/jwt", d("type", "jwt"))
	if err := m.storage.Put(t.Context(), &logical.StorageEntry{Key: settings.Key, Value: []byte("{")}); err != nil {
		t.Fatal(err)
	}
	m.boot()
	m.fails(500, logical.ReadOperation, "config", nil, "configuration")
	m.fails(500, logical.UpdateOperation, "rotate/r", nil, "configuration")
}

// TestTamperedHistory changes one entry of a history.
func TestTamperedHistory(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/jwt", d("type", "jwt"))
	for range 5 {
		m.write("rotate/r", d("reason", "honest"))
	}
	whole := m.storage.contents(t)
	key := entryKey("role/r", 3)
	for problem, value := range map[string]string{
		"entry 3 was changed": strings.Replace(whole[key], "honest", "forged", 1),
		"entry 3 is missing":  "",
	} {
		var err error
		if value == "" {
			err = m.storage.Delete(t.Context(), key)
		} else {
			err = m.storage.Put(t.Context(), &logical.StorageEntry{Key: key, Value: []byte(value)})
		}
		if err != nil {
			t.Fatal(err)
		}
		m.boot()
		if h := m.read("history/r", nil); h["chain_valid"] != false || h["problem"] != problem {
			t.Errorf("the history is %v, want %s", h, problem)
		}
	}
}
