package backend

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// lastRecord returns the newest record of role r.
func (m *mount) lastRecord() map[string]any {
	m.Helper()
	return m.read(m.record("history/r/ID"), nil)
}

func (m *mount) lastIssues(words ...string) {
	m.Helper()
	if issues := fmt.Sprint(m.lastRecord()["issues"]); !strings.Contains(issues, words[0]) {
		m.Errorf("history says %s, without %q", issues, words)
	}
}

// draining is role r with a database of that strategy, and of another secret.
func (s *server) draining(usernames any, end string) {
	s.Helper()
	s.write("roles/r", d("rotation_period", "10h", "overlap", "1h"))
	s.write("secrets/r/db", d("type", "database", "connection", "main", "rotation_strategy", strategyOf(usernames), "usernames", usernames, "on_overlap_end", end))
	s.write("secrets/r/key", d("type", "api_key"))
}

func TestTerminate(t *testing.T) {
	m := withoutTries(t)
	s := m.connect()
	m.write("roles/r", d("rotation_period", "10h", "overlap", "1h"))
	data := d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", s.pair(), "on_overlap_end", "terminate")
	m.refused(logical.UpdateOperation, "secrets/r/db", data, "on_overlap_end", "GRANT pg_signal_backend TO")
	s.sql("GRANT pg_signal_backend TO %s", s.admin)
	m.write("secrets/r/db", data)
	old := s.sessionAs(m.read("creds/r", nil), "db")
	m.write("rotate/r", nil)
	m.clock.advance(time.Hour)
	m.tick(0)
	m.overlapOver("db")
	m.lastIssues("secret db: version 1 is retired; open sessions that the engine terminated: 1")
	if _, err := old.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("the session goes on")
	}
	m.revokesSession(s)
}

// TestLastLoginIsNotRetired has the server refuse the current login at the end of an
// overlap, as one that was restored does.
func TestLastLoginIsNotRetired(t *testing.T) {
	m := withoutTries(t)
	s := m.connect()
	s.draining(s.pair(), "")
	first := m.read("creds/r", nil)
	m.write("rotate/r", nil)
	s.sql("ALTER ROLE %s PASSWORD 'as-it-was-before'", m.read("creds/r", nil)["db_username"])
	m.refused(logical.UpdateOperation, "retire/r", nil, "force", "secret db: everybody, because the target refuses the current value")
	m.clock.advance(time.Hour)
	m.tick(0)
	m.eventually("the attempt to retire", func() bool {
		return strings.Contains(fmt.Sprint(m.read("status/r", nil)["last_error"]), "it may be the only one that works")
	})
	if err := logIn(t, first["db_username"], first["db_password"]); err != nil {
		t.Errorf("the only login that worked: %v", err)
	}
	m.write("verify/r", d("repair", true))
	m.clock.advance(time.Hour)
	m.overlapOver("db")
	if err := logIn(t, first["db_username"], first["db_password"]); err == nil {
		t.Error("after a repair, the previous login works on")
	}
}

// TestTerminateOfSingleUser revokes at once. At the end of an overlap it would need
// a clock that goes as that of the server does: package secret/database tests that.
func TestTerminateOfSingleUser(t *testing.T) {
	m := withoutTries(t)
	s := m.connect()
	s.sql("GRANT pg_signal_backend, pg_read_all_stats TO %s", s.admin)
	s.draining(s.user(), "terminate")
	m.revokesSession(s)
}

// revokesSession opens a session and revokes its login.
func (m *mount) revokesSession(s *server) {
	m.Helper()
	old := s.sessionAs(m.read("creds/r", nil), "db")
	resp, err := m.try(logical.UpdateOperation, "rotate/r", d("revoke_previous", true))
	m.must(resp, err)
	if !strings.Contains(fmt.Sprint(resp.Warnings), "open sessions that the engine terminated: 1") {
		m.Errorf("revoking warns %q", resp.Warnings)
	}
	if _, err := old.Exec(m.Context(), "SELECT 1"); err == nil {
		m.Error("the session of a revoked login goes on")
	}
}

func strategyOf(usernames any) string {
	if _, two := usernames.([]string); two {
		return "alternating_users"
	}
	return "single_user"
}

func TestWait(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.draining(s.user(), "")
	m.refused(logical.UpdateOperation, "secrets/r/db", d("on_overlap_end", "wait"), "on_overlap_end", "GRANT pg_read_all_stats TO")
	m.refused(logical.UpdateOperation, "secrets/r/db", d("drain_timeout", "5m"), "drain_timeout", "on_overlap_end=wait")
	m.deleteRole("r")
	m.write("roles/r", d("rotation_period", "10h", "overlap", "1h"))
	m.write("secrets/r/db", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", s.pair(), "on_overlap_end", "wait", "drain_timeout", "10m"))
	if config := m.read("secrets/r/db", nil); config["on_overlap_end"] != "wait" || fmt.Sprint(config["drain_timeout"]) != "600" {
		t.Errorf("the configuration is %v", config)
	}
	first := m.read("creds/r", nil)
	old := s.sessionAs(first, "db")
	m.write("rotate/r", nil)
	m.clock.advance(time.Hour)
	end := m.clock.now()
	m.tick(0)
	m.eventually("the wait", func() bool { return m.stage("db", "previous")["drain_until"] != nil })
	m.eventually("that the role is idle", func() bool { return m.read("status/r", nil)["in_flight"] == nil })
	stage := m.stage("db", "previous")
	if stage["drain_until"] != timestamp(end.Add(10*time.Minute)) || stage["valid"] != true {
		t.Errorf("status says %v", stage)
	}
	if err := logIn(t, first["db_username"], first["db_password"]); err != nil {
		t.Errorf("the login that is waited for: %v", err)
	}
	m.boot()
	if err := old.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.eventually("the retirement", func() bool {
		m.tick(5 * time.Second)
		return m.stage("db", "previous") == nil
	})
	m.lastIssues("its sessions have ended, after the engine had waited for them until")
	if err := logIn(t, first["db_username"], first["db_password"]); err == nil {
		t.Error("the retired login works")
	}
}

// TestSessionsGoOn retires a login that is in use, as is the default.
func TestSessionsGoOn(t *testing.T) {
	m := withoutTries(t)
	s := m.connect()
	s.orders()
	old := s.sessionAs(m.read("creds/r", d("stage", "previous")), "two")
	m.clock.advance(45 * time.Minute) // after the overlap, before the next rotation
	m.tick(0)
	m.overlapOver("two")
	m.eventually("its record", func() bool { return m.lastRecord()["kind"] == "retire" })
	m.lastIssues("sessions that go on until they end by themselves: 1")
	if _, err := old.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Errorf("the session: %v", err)
	}
}
