package backend

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestStorageAwayAtStart starts while storage cannot be read: nothing leaves the
// schedule for that.
func TestStorageAwayAtStart(t *testing.T) {
	m := newMount(t)
	m.write("config", d("rotation_period", "1h"))
	m.write("roles/r", nil)
	m.write("secrets/r/jwt", d("type", "jwt"))
	for _, fail := range []func(bool) *logical.InmemStorage{m.storage.FailGet, m.storage.FailList} {
		want := m.version("r") + 1
		complaints := m.complaints()
		fail(true)
		m.clock.advance(2 * time.Hour)
		m.boot()
		m.eventually("the complaint", func() bool { return m.complaints() > complaints })
		fail(false)
		m.unasked("r", want)
	}
}

func (m *mount) complaints() int { return strings.Count(m.said.text(), "some entries cannot be read") }

// unasked waits for a version without asking for the role, which would load
// it too. Time passes: after a start, readers are given some of it.
func (m *mount) unasked(role string, version int) {
	m.Helper()
	m.eventually("a rotation nobody asked for", func() bool {
		m.tick(time.Minute)
		state, err := m.b.store.Load(context.Background(), roles.Prefix+role)
		return err == nil && state.Version == version && state.InFlight == nil
	})
}

// TestStorageAwayWhenDue has a rotation become due while storage takes nothing:
// it is tried again when it does, neither dropped nor tried without pause.
func TestStorageAwayWhenDue(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "1h"))
	m.write("secrets/r/jwt", d("type", "jwt"))
	before := m.read("creds/r", nil)["jwt_secret"]
	m.storage.FailPut(true)
	m.tick(time.Hour)
	m.eventually("a plan for later", func() bool { return m.planned("r").After(m.clock.now()) })
	if m.read("creds/r", nil)["jwt_secret"] != before {
		t.Error("a value that was never stored is read")
	}
	m.storage.FailPut(false)
	m.tick(time.Hour)
	m.becomes("r", 2)
	m.boot()
	if m.version("r") != 2 || m.read("history/r", nil)["chain_valid"] != true {
		t.Error("after the storage came back, the history is broken")
	}
}

// TestOvertaken starts a scheduled rotation after a manual one has taken its
// place: rotating again would end an overlap that has just begun.
func TestOvertaken(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "1h"))
	m.write("secrets/r/jwt", d("type", "jwt"))
	r, err := m.b.registry.Get(t.Context(), roles.Prefix, "r")
	if err != nil {
		t.Fatal(err)
	}
	m.write("rotate/r", nil)
	run, err := r.Start(t.Context(), rotation.Request{Kind: rotation.KindRotate, Trigger: rotation.TriggerSchedule})
	if err != nil {
		t.Fatal(err)
	}
	<-run.Done()
	if m.version("r") != 2 {
		t.Error("it rotated twice")
	}
}

// TestTainted is about the last calls before a mount is removed: they start
// nothing.
func TestTainted(t *testing.T) {
	for _, tainted := range []bool{false, true} {
		m := unbooted(t)
		m.system.TaintedVal = tainted
		m.b = m.made()
		var storage logical.Storage = m.storage
		m.b.store.handle.Store(&storage)
		m.tick(time.Minute)
		started := true
		m.b.start.Do(func() { started = false })
		if started == tainted {
			t.Errorf("with tainted=%v, work is started: %v", tainted, started)
		}
	}
}

// TestStalledPostgres makes the server answer nothing. Vault's timer is let go at
// once, and so are readers; the rotation goes on when the server does.
func TestStalledPostgres(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("connections/main", d("connect_timeout", 1))
	for _, role := range []string{"a", "b", "c"} {
		m.write("roles/"+role, d("rotation_period", "1h"))
		m.write("secrets/"+role+"/db", d("type", "database", "connection", "main", "usernames", s.user()))
	}
	before := m.read("creds/a", nil)
	if err := pgtest.Shared.Stall(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pgtest.Shared.Continue() })
	during, shortest := before, time.Hour
	for range 5 { // each would wait if any did
		started := time.Now()
		m.tick(time.Hour)
		during = m.read("creds/a", nil)
		m.read("status/a", nil)
		m.list("roles")
		shortest = min(shortest, time.Since(started))
	}
	if shortest > 500*time.Millisecond {
		t.Errorf("with PostgreSQL stalled, Vault's timer and readers were kept for %s", shortest)
	}
	if during["db_password"] != before["db_password"] {
		t.Error("with PostgreSQL stalled, readers get something else")
	}
	m.eventually("the failure", func() bool { return m.read("status/a", nil)["last_error"] != "" })
	if err := pgtest.Shared.Continue(); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"a", "b", "c"} {
		m.eventually("the rotation of "+role, func() bool {
			m.tick(time.Minute)
			return m.version(role) > 1
		})
		now := m.read("creds/"+role, nil)
		if err := logIn(t, now["db_username"], now["db_password"]); err != nil {
			t.Errorf("after the stall, the login of %s: %v", role, err)
		}
	}
}
