package backend

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

func (m *mount) ttl(role string) int64 {
	m.Helper()
	return m.read("creds/"+role, nil)["ttl"].(int64)
}

// next is the stored time of the next automatic rotation.
func (m *mount) next(role string) time.Time {
	m.Helper()
	at, err := time.Parse(time.RFC3339, m.read("status/"+role, nil)["next_vault_rotation"].(string))
	if err != nil {
		m.Fatal(err)
	}
	return at
}

func TestTTL(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "1h"))
	m.write("secrets/r/jwt", d("type", "jwt"))
	if ttl := m.ttl("r"); ttl != 300 {
		t.Errorf("ttl is %d, want the refresh interval of 300", ttl)
	}
	m.clock.advance(m.next("r").Sub(m.clock.now()) - 100*time.Second)
	if ttl := m.ttl("r"); ttl != 100 {
		t.Errorf("100 s before the next rotation, ttl is %d", ttl)
	}
	m.clock.advance(99*time.Second + 500*time.Millisecond)
	if ttl := m.ttl("r"); ttl != 0 {
		t.Errorf("half a second before the next rotation, ttl is %d", ttl)
	}
	m.write("roles/r", d("auto_rotate", false))
	m.clock.advance(3 * time.Hour)
	if ttl := m.ttl("r"); ttl != 300 {
		t.Errorf("without automatic rotation, ttl is %d", ttl)
	}
}

// TestTTLOverdue has a policy that makes no passwords any more, so that rotations
// fail: ttl is the time to the next attempt, and the refresh interval again once
// nobody attempts anything any more.
func TestTTLOverdue(t *testing.T) {
	m := newMount(t)
	broken := m.breakable("fragile")
	m.write("roles/r", d("rotation_period", "1h", "retry_interval", "1m", "max_retries", 2))
	m.write("secrets/r/pin", d("type", "random", "password_policy", "fragile"))
	broken(errors.New("no entropy"))
	m.tick(2 * time.Hour)
	m.eventually("the first failure", func() bool { return m.read("status/r", nil)["failures"] == 1 })
	if ttl := m.ttl("r"); ttl <= 30 || ttl > 60 {
		t.Errorf("before the next attempt, ttl is %d", ttl)
	}
	if m.read("status/r", nil)["overdue"] != true {
		t.Error("a rotation that fails is not overdue")
	}
	for failures := 2; failures <= 3; failures++ {
		m.tick(time.Hour)
		m.eventually("another failure", func() bool { return m.read("status/r", nil)["failures"] == failures })
	}
	if m.read("status/r", nil)["needs_attention"] != true {
		t.Error("after three failures, nobody's attention is needed")
	}
	if ttl := m.ttl("r"); ttl != 300 {
		t.Errorf("when nothing is attempted any more, ttl is %d", ttl)
	}
	broken(nil)
}

// breakable makes a policy that can be broken and mended.
func (m *mount) breakable(name string) func(error) {
	state := make(chan error, 1)
	state <- nil
	m.policy(name, func() (string, error) {
		err := <-state
		state <- err
		return "breakable-" + uid(m.T), err
	})
	return func(err error) {
		<-state //nolint:errcheck // what was there is replaced
		state <- err
	}
}

// TestTTLInFlight reads while a rotation waits for a lock in PostgreSQL: readers
// get what they got before, at once, and are told to come back soon.
func TestTTLInFlight(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/r", d("rotation_period", "1h"))
	m.write("secrets/r/db", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", s.pair()))
	before := m.read("creds/r", nil)
	wait, hold := s.lock()
	m.write("secrets/r/db", d("verification_statements", []any{wait}))
	release := hold()
	started := m.write("rotate/r", d("wait", 0))
	if started["status"] != "in_progress" || started["version"] != 1 {
		t.Errorf("a rotation that takes longer answers %v", started)
	}
	m.eventually("the test of the pending value", func() bool {
		op, _ := m.read("status/r", nil)["in_flight"].(map[string]any)
		return op["step"] == "test" && op["secret"] == "db" && op["rotation_id"] == started["rotation_id"]
	})
	during := m.read("creds/r", nil)
	if during["ttl"] != int64(2) || during["db_password"] != before["db_password"] || during["version"] != before["version"] {
		t.Errorf("during a rotation, ttl is %v and version %v", during["ttl"], during["version"])
	}
	if err := logIn(t, during["db_username"], during["db_password"]); err != nil {
		t.Errorf("what is read during a rotation does not work: %v", err)
	}
	m.fails(409, logical.UpdateOperation, "rotate/r", nil, "rotate", started["rotation_id"].(string), "of r", "under way since")
	m.fails(409, logical.UpdateOperation, "rollback/r", nil, started["rotation_id"].(string))
	m.fails(409, logical.UpdateOperation, "secrets/r/more", d("type", "jwt"), started["rotation_id"].(string))
	m.fails(409, logical.DeleteOperation, "roles/r", nil, started["rotation_id"].(string))
	m.fails(409, logical.DeleteOperation, "secrets/r/db", nil, started["rotation_id"].(string))
	release()
	m.eventually("the end of the rotation", func() bool { return m.read("creds/r", nil)["version"] == 2 })
}
