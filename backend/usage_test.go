package backend

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// stage reads one stage of a secret of role r from status.
func (m *mount) stage(secret, stage string) map[string]any {
	m.Helper()
	found, _ := m.read("status/r", nil)["secrets"].(map[string]any)[secret].(map[string]any)[stage].(map[string]any)
	return found
}

// counted checks what status says of the use of a stage of the secret key.
func (m *mount) counted(stage string, uses int64, last, since time.Time) {
	m.Helper()
	got := m.stage("key", stage)
	if got["uses"] != uses || got["last_used"] != timestamp(last) || got["counted_since"] != timestamp(since) {
		m.Errorf("%s: status says %v, want %d uses, the last at %v, since %v", stage, got, uses, timestamp(last), timestamp(since))
	}
}

// overlaps checks that the sentence about the overlap has all of the words.
func (m *mount) overlaps(words ...string) {
	m.Helper()
	text := m.read("status/r", nil)["overlap"].(string)
	for _, word := range words {
		if !strings.Contains(text, word) {
			m.Errorf("status says %q, without %q", text, word)
		}
	}
	if len(words) == 0 && text != "" {
		m.Errorf("status says %q of no overlap", text)
	}
}

// TestUsage follows a key from stage to stage.
func TestUsage(t *testing.T) {
	m := newMount(t)
	start, never := m.clock.now(), time.Time{}
	m.write("roles/r", d("rotation_period", "1h", "overlap", "20m"))
	m.write("secrets/r/key", d("type", "api_key"))
	m.write("secrets/r/pin", d("type", "random"))
	first := m.read("creds/r", nil)["key_key"]
	m.counted("current", 0, never, start)
	m.overlaps()
	m.clock.advance(time.Minute)
	m.verifies(first, "current", 1, "")
	m.verifies(first, "current", 1, "")
	m.verifies("nonsense", "", 0, "neither")
	m.counted("current", 2, start.Add(time.Minute), start)

	m.clock.advance(time.Minute)
	rotated := m.clock.now()
	m.write("rotate/r", d("secrets", "key"))
	second := m.read("creds/r", nil)["key_key"]
	m.counted("current", 0, never, rotated)
	m.counted("previous", 0, never, rotated)
	m.overlaps("It is not known who uses the previous values of key (nobody has verified any of its values here)")
	m.verifies(second, "current", 3, "")
	m.overlaps("Nobody has used the previous values of key since "+fmt.Sprint(timestamp(rotated)), "would cut off nobody")
	m.clock.advance(time.Minute)
	m.verifies(first, "previous", 1, "")
	m.overlaps("in use: key (uses since", "would cut off those who use the previous values of key")
	m.write("rotate/r", d("secrets", "pin"))
	m.counted("previous", 1, m.clock.now(), rotated)
	m.overlaps("in use: key", "not known who uses the previous values of pin", "would cut off those who use the previous values of key") // that pin is not used through here
	m.write("rollback/r", d("secrets", "key"))
	m.counted("current", 0, never, m.clock.now())
	m.counted("previous", 0, never, m.clock.now())

	m.clock.advance(time.Minute)
	m.boot()
	m.counted("previous", 0, never, m.clock.now())
	m.clock.advance(20 * time.Minute)
	m.tick(0)
	m.overlapOver("key")
	m.overlaps()
}

// TestUsageAtOnce counts uses while rotations go on.
func TestUsageAtOnce(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/key", d("type", "api_key", "skip_import_rotation", true, "key", "imported-key-0123456789"))
	r, err := m.b.findRole(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	const each = 200
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range each {
				m.b.usage.Used(r, r.Snapshot().Secrets["key"], secret.StageCurrent)
			}
		})
	}
	m.write("rotate/r", d("secrets", "key", "revoke_previous", true))
	all.Wait()
	if now, ok := m.b.usage.Uses(r, r.Snapshot().Secrets["key"], secret.StageCurrent); !ok || now.Count > 4*each {
		t.Errorf("counted %v", now)
	}
}

// session is a login of an application that stays.
func (s *server) sessionAs(creds map[string]any, secret string) *pgx.Conn {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), fmt.Sprint(creds[secret+"_connection_string"]))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestSessions has an application that stays on its previous login.
func TestSessions(t *testing.T) {
	m := withoutTries(t)
	s := m.connect()
	s.orders()
	m.delete("secrets/r/jwt")
	m.overlaps("It is not known who uses the previous values of two (the engine has not asked its server yet")
	previous := m.read("creds/r", d("stage", "previous"))
	m.read("creds/r", nil) // or the reader would be late
	m.tick(time.Minute)
	first := m.clock.now()
	m.eventually("a look", func() bool { return m.stage("two", "previous")["sessions"] == 0 })
	m.overlaps("Nobody has used the previous values of two since", "would cut off nobody")
	conn := s.sessionAs(previous, "two")
	m.tick(time.Minute)
	m.eventually("the session", func() bool { return m.stage("two", "previous")["sessions"] == 1 })
	m.overlaps("in use: two (sessions at")
	stage := m.stage("two", "previous")
	if stage["last_used"] != timestamp(m.clock.now()) || stage["looked_at"] != timestamp(m.clock.now()) || stage["counted_since"] != timestamp(first) {
		t.Errorf("status says %v", stage)
	}
	if one := m.stage("one", "previous"); one["sessions"] != nil || one["valid"] != false {
		t.Errorf("status says %v of a single user", one)
	}
	seen := m.clock.now()
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.eventually("the end of the session", func() bool {
		m.tick(time.Second)
		return m.stage("two", "previous")["sessions"] == 0
	})
	if last := m.stage("two", "previous")["last_used"].(string); last < timestamp(seen).(string) {
		t.Errorf("the session was last seen at %v", last)
	}
	m.overlaps("in use: two (no session at")
}

// TestSessionsOfSilentServers has a server that cannot be asked.
func TestSessionsOfSilentServers(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	gone := s.described()
	gone["port"], gone["verify_connection"] = 1, false
	m.write("connections/main", gone)
	m.tick(time.Minute)
	m.eventually("the complaint", func() bool { return m.stage("two", "previous")["look_error"] != nil })
	m.overlaps("or got no answer")
	m.write("connections/main", s.described())
	m.eventually("the answer", func() bool {
		m.tick(time.Second)
		return m.stage("two", "previous")["sessions"] == 0
	})
	if m.stage("two", "previous")["look_error"] != nil {
		t.Error("status still complains")
	}
	m.write("rotate/r", d("revoke_previous", true))
	if previous := m.stage("two", "previous"); previous != nil {
		t.Errorf("status says %v of a revoked login", previous)
	}
}
