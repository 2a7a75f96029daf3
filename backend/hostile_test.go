package backend

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestHostileDatabase sends every request that reaches PostgreSQL, with a database
// whose owner has shadowed all that a statement could mean and set all that can be set.
// The package secret does so on each major version.
func TestHostileDatabase(t *testing.T) {
	m := newMount(t)
	s := &server{mount: m, pg: pgtest.Shared, admin: unique("admin"), password: "first-" + uid(t)}
	owner := unique("owner")
	s.sql("CREATE ROLE %s LOGIN CREATEROLE PASSWORD '%s'; GRANT pg_signal_backend TO %s; CREATE ROLE %s", s.admin, s.password, s.admin, owner)
	single, users := s.user(), []string{s.user(), s.user()}
	s.sql("GRANT %s TO %s, %s, %s; ALTER ROLE %s PASSWORD 'theirs'", owner, single, users[0], users[1], single)
	h := testenv.NewHostile(t, pgtest.Shared, s.admin, owner)
	h.Spoil(append(users, single), "local_preload_libraries")
	h.Lured(s.password, "SELECT pg_terminate_backend(0, 1000)")
	if len(h.Calls()) == 0 {
		t.Fatal("nothing was used by a session without protection")
	}

	for _, operation := range []struct {
		name string
		do   func()
	}{
		{"write the connection", func() {
			connection := s.described()
			connection["database"] = h.Database
			m.write("connections/main", connection)
		}},
		{"rotate-root", func() { m.write("rotate-root/main", nil) }},
		{"import", func() {
			m.write("roles/r", d("rotation_period", "10h", "overlap", "1h"))
			m.write("secrets/r/one", d("type", "database", "connection", "main", "usernames", single, "skip_import_rotation", true, "password", "theirs"))
		}},
		{"create", func() {
			m.write("secrets/r/two", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", users, "on_overlap_end", "terminate"))
		}},
		{"dry run", func() { m.write("rotate/r", d("dry_run", true)) }},
		{"rotate", func() { m.write("rotate/r", nil) }},
		{"status", func() { m.read("status/r", nil) }},
		{"verify", func() { s.valid() }},
		{"rollback", func() { m.write("rollback/r", nil) }},
		{"repair", func() {
			snapshot := m.storage.copied(t)
			m.write("rotate/r", d("revoke_previous", true))
			m.storage = snapshot
			m.boot()
			m.write("verify/r", d("repair", true))
			s.valid()
		}},
		{"terminate and retire", func() {
			session := s.sessionAs(m.read("creds/r", nil), "two")
			m.write("rotate/r", nil)
			m.clock.advance(time.Hour)
			m.tick(0)
			m.overlapOver("two", "one")
			if _, err := session.Exec(t.Context(), "SELECT 1"); err == nil {
				t.Error("the session goes on")
			}
		}},
		{"delete", func() {
			m.deleteRole("r")
			m.delete("connections/main")
		}},
	} {
		operation.do()
		if calls := h.Calls(); len(calls) > 0 {
			t.Errorf("%s has run, as the administrator: %q", operation.name, calls)
		}
	}
}

// valid expects that the engine proves what it stores.
func (s *server) valid() {
	s.Helper()
	resp, err := s.try(logical.ReadOperation, "verify/r", nil)
	if report := s.must(resp, err); report["valid"] != true {
		s.Errorf("verify reports %v", fmt.Sprint(report))
	}
}
