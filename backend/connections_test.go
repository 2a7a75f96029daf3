package backend

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
)

func TestConnectionLife(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	read := m.read("connections/main", nil)
	for _, name := range []string{"password", "tls_key", "verify_connection"} {
		if _, shown := read[name]; shown {
			t.Errorf("reading a connection shows %s", name)
		}
	}
	if read["max_open_connections"] != 4 || read["connect_timeout"] != int64(5) || read["next_vault_rotation"] != nil {
		t.Errorf("defaults of a connection are %v", read)
	}
	m.write("connections/main", d("max_open_connections", 2))
	m.write("connections/main", d("connection_url", "postgresql://{{username}}:{{password}}@127.0.0.1:"+strconv.Itoa(pgtest.Shared.Port)+"/postgres?sslmode=disable"))
	changed := m.read("connections/main", nil)
	if changed["max_open_connections"] != 2 || changed["host"] != nil || changed["connection_url"] == nil || changed["username"] != s.admin {
		t.Errorf("after two updates the connection is %v", changed)
	}
	m.write("connections/main", d("host", "localhost", "database", "postgres", "sslmode", "disable", "port", pgtest.Shared.Port))
	if back := m.read("connections/main", nil); back["connection_url"] != nil || back["host"] != "localhost" {
		t.Errorf("parts do not replace the URL: %v", back)
	}
	m.delete("connections/main")
	if _, err := m.try(logical.ReadOperation, "connections/main", nil); err != nil {
		t.Error(err)
	}
	if left := m.list("connections"); len(left) != 0 {
		t.Errorf("there are connections %v", left)
	}
	if count := m.read("connections/main/history", nil)["count"]; count != 5 {
		t.Errorf("a deleted connection has %v history entries", count)
	}
	version := read["version"].(int)
	m.write("connections/main", s.described())
	if again := m.read("connections/main", nil)["version"].(int); again <= version+3 {
		t.Errorf("a connection that was deleted at version 5 is version %d again", again)
	}
}

// TestSupplyNewAdministrator is about the one reason to supply a password: that
// the stored one stopped working.
func TestSupplyNewAdministrator(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.password = "second-" + uid(t)
	s.sql("ALTER ROLE %s PASSWORD '%s'", s.admin, s.password)
	m.write("connections/main", d("password", s.password))
	successor := unique("admin")
	s.sql("CREATE ROLE %s LOGIN CREATEROLE PASSWORD '%s'; DROP ROLE %s", successor, s.password, s.admin)
	m.write("connections/main", d("username", successor, "password", s.password))
	if got := m.read("connections/main", nil)["username"]; got != successor {
		t.Errorf("the administrator is %v, want %s", got, successor)
	}
	m.write("rotate-root/main", nil)
	if err := logIn(t, successor, s.password); err == nil {
		t.Error("after rotate-root the supplied password still works")
	}
}

func TestRotateRoot(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/r", nil)
	user := s.user()
	m.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", user))
	answer := m.write("rotate-root/main", d("reason", "handed over"))
	if answer["status"] != "completed" || answer["connection"] != "main" {
		t.Errorf("rotate-root answers %v", answer)
	}
	if err := logIn(t, s.admin, s.password); err == nil {
		t.Error("the administrator's old password still works")
	}
	m.write("rotate/r", nil)
	rec := m.read("connections/main/history/"+answer["rotation_id"].(string), nil)
	if rec["reason"] != "handed over" || rec["outcome"] != "completed" {
		t.Errorf("the record is %v", rec)
	}
	if h := m.read("connections/main/history", nil); h["chain_valid"] != true {
		t.Errorf("the history is %v", h)
	}
	m.boot()
	m.write("rotate/r", nil)
}

// TestRotateRootInterrupted leaves a rotation of the administrator open, and then
// changes the connection without supplying a password.
func TestRotateRootInterrupted(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.storage.allowPuts(1)
	m.fails(422, logical.UpdateOperation, "rotate-root/main", nil, "commit", "storage")
	m.rescue(s) // neither the current nor the pending password works now
	m.storage.allowPuts(-1)
	m.boot()
	m.eventually("the first attempt to recover", func() bool {
		return m.read("connections/main", nil)["unresolved"] != nil && !m.b.registry.Known(roles.ConnectionPrefix+"main").Busy()
	})
	m.write("connections/main", d("max_open_connections", 2, "verify_connection", false))
	if m.read("connections/main", nil)["unresolved"] == nil {
		t.Error("what the interrupted rotation has left is forgotten")
	}
	if advice := fmt.Sprint(m.read("connections/main", nil)["advice"]); !strings.Contains(advice, "rotate-root/main") {
		t.Errorf("the advice is %q", advice)
	}
	m.refused(logical.UpdateOperation, "connections/main", d("password", "a-typo-0123456789", "verify_connection", false), "verify_connection", "has not ended", "Nothing was stored")
	m.write("connections/main", d("username", s.admin, "password", m.rescue(s)))
	if left := m.read("connections/main", nil)["unresolved"]; left != nil {
		t.Errorf("a supplied login leaves unresolved %v", left)
	}
	m.write("rotate-root/main", nil)
}

// rescue gives the administrator a password by other means.
func (m *mount) rescue(s *server) string {
	password := "rescue-" + uid(m.T)
	s.sql("ALTER ROLE %s PASSWORD '%s'", s.admin, password)
	return password
}

// TestScheduledRoot rotates the administrator's password by itself.
func TestScheduledRoot(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("connections/main", d("rotation_period", "1h"))
	first := m.read("connections/main", nil)
	if first["rotation_period"] != int64(3600) || first["next_vault_rotation"] == nil {
		t.Errorf("the connection does not rotate: %v", first)
	}
	version := first["version"].(int)
	m.tick(61 * time.Minute)
	m.eventually("the administrator's rotation", func() bool { return m.read("connections/main", nil)["version"].(int) > version })
	if err := logIn(t, s.admin, s.password); err == nil {
		t.Error("the administrator's old password still works")
	}
}
