package backend

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
)

// planned is when the scheduler will do something about a role; zero if never. A
// run that has just ended may not have planned the role again yet.
func (m *mount) planned(role string) time.Time {
	m.Helper()
	r, err := m.b.registry.Get(m.Context(), roles.Prefix, role)
	if err != nil {
		m.Fatal(err)
	}
	m.eventually("its operation to end", func() bool { return !r.Busy() }) // until then it has no plan
	return m.b.scheduler.Plan(r)
}

// last is when the role last rotated.
func (m *mount) last(role string) time.Time {
	m.Helper()
	at, err := time.Parse(time.RFC3339, m.read("status/"+role, nil)["last_vault_rotation"].(string))
	if err != nil {
		m.Fatal(err)
	}
	return at
}

func (m *mount) version(role string) int {
	m.Helper()
	return m.read("status/"+role, nil)["version"].(int)
}

// becomes waits for a version.
func (m *mount) becomes(role string, version int) {
	m.Helper()
	m.eventually(fmt.Sprintf("version %d of %s", version, role), func() bool { return m.version(role) >= version })
	if now := m.version(role); now != version {
		m.Fatalf("%s is version %d, want %d", role, now, version)
	}
}

// stages says which stages a secret has values in.
func (m *mount) stages(role, secret string) map[string]any {
	m.Helper()
	stages, _ := m.read("status/"+role, nil)["secrets"].(map[string]any)[secret].(map[string]any)
	return stages
}

func TestRotatesByItself(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "1h", "overlap", "10m"))
	m.write("secrets/r/jwt", d("type", "jwt"))
	for version := 2; version < 7; version++ {
		at, last := m.next("r"), m.last("r")
		if m.planned("r") != at {
			t.Fatalf("version %d is to follow at %s, and is planned for %s", version, at, m.planned("r"))
		}
		if life := at.Sub(last); life > time.Hour || life < 59*time.Minute {
			t.Fatalf("version %d follows after %s", version, life)
		}
		m.tick(at.Sub(m.clock.now()))
		m.becomes("r", version)
		if m.stages("r", "jwt")["previous"] == nil {
			t.Error("after a rotation there is no previous value")
		}
		m.tick(10 * time.Minute)
		m.overlapOver("jwt")
	}
	ids := m.list("history/r")
	rotation, retirement := m.read("history/r/"+ids[2], nil), m.read("history/r/"+ids[3], nil)
	if rotation["kind"] != "rotate" || rotation["trigger"] != "schedule" || retirement["kind"] != "retire" || retirement["trigger"] != "schedule" {
		t.Errorf("the history has %v by %v, %v by %v", rotation["kind"], rotation["trigger"], retirement["kind"], retirement["trigger"])
	}
	if rotation["actor"] != nil {
		t.Errorf("a rotation by schedule has the actor %v", rotation["actor"])
	}
}

// TestRestart boots again and again: nothing rotates early, and what became due
// meanwhile happens once.
func TestRestart(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "1h"))
	m.write("roles/cron", d("rotation_schedule", "30 * * * *"))
	for _, role := range []string{"r", "cron"} {
		m.write("secrets/"+role+"/jwt", d("type", "jwt"))
	}
	at := map[string]time.Time{"r": m.next("r"), "cron": m.next("cron")}
	for range 5 {
		m.clock.advance(4 * time.Minute)
		m.boot()
		for role, want := range at {
			if m.planned(role) != want || m.next(role) != want || m.version(role) != 1 {
				t.Errorf("after a restart %s rotates at %s, want %s", role, m.planned(role), want)
			}
		}
	}
	m.clock.advance(3 * time.Hour)
	m.boot()
	m.unasked("r", 2)
	m.unasked("cron", 2)
	for role := range at {
		if !m.next(role).After(m.clock.now()) {
			t.Errorf("after an outage, %s rotates again at once", role)
		}
	}
}

// TestMissedWindow boots after the window of a schedule has passed.
func TestMissedWindow(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_schedule", "0 3 * * *", "rotation_window", "1h"))
	m.write("secrets/r/jwt", d("type", "jwt"))
	m.clock.advance(m.next("r").Sub(m.clock.now()) + 61*time.Minute)
	m.boot()
	if at, want := m.planned("r"), time.Date(2026, 3, 3, 3, 0, 0, 0, time.UTC); at.Before(want) || at.Sub(want) > 30*time.Second {
		t.Errorf("a missed rotation is planned for %s, want %s", at, want)
	}
	if m.version("r") != 1 {
		t.Error("a rotation started outside its window")
	}
	m.tick(m.planned("r").Sub(m.clock.now()))
	m.becomes("r", 2)
}

// TestAShorterPeriodWaitsForTheOverlap gives a role a period that ends before the overlap
// which is running: the answer and status say what the rotation waits for and what ends
// the wait, nobody is told that it is late, and it starts when the overlap ends.
func TestAShorterPeriodWaitsForTheOverlap(t *testing.T) {
	m, r := newMount(t), newReceiver(t)
	m.write("roles/r", d("rotation_period", "720h", "overlap", "24h"))
	m.write("secrets/r/jwt", d("type", "jwt"))
	m.write("rotate/r", nil)
	end := m.clock.now().Add(24 * time.Hour)
	if advice := m.read("status/r", nil)["advice"]; advice != "" {
		t.Errorf("an overlap that keeps no rotation waiting: %v", advice)
	}
	m.clock.advance(time.Second) // what was before is not told
	m.write("alerts/hook", d("type", "webhook", "url", r.URL+"/hook", "events", "rotation_overdue,rotation_completed"))
	shorter := d("rotation_period", "10m", "overlap", "5m")
	want := fmt.Sprintf("waits until %s, when the overlap of the previous values ends; to rotate now, write rotate/r, which ends that overlap", timestamp(end))
	resp, err := m.try(logical.UpdateOperation, "roles/r", shorter)
	if m.must(resp, err); resp == nil || !strings.Contains(strings.Join(resp.Warnings, "; "), want) {
		t.Errorf("the write answers %v, not that the next rotation %s", resp, want)
	}
	m.tick(23 * time.Hour)
	status := m.read("status/r", nil)
	if advice := status["advice"].(string); !strings.Contains(advice, want) || status["overdue"] != false || status["next_vault_rotation"] != timestamp(end) {
		t.Errorf("while it waits, status is %v", status)
	}
	m.tick(time.Hour)
	m.becomes("r", 3)
	m.eventually("the end of the rotation", func() bool { return m.read("status/r", nil)["in_flight"] == nil })
	if status := m.read("status/r", nil); status["advice"] != "" || status["overdue"] != false {
		t.Errorf("after it, status is %v", status)
	}
	m.receives(r, "rotation_completed")
	if resp, err = m.try(logical.UpdateOperation, "roles/r", shorter); err != nil || resp != nil && strings.Contains(strings.Join(resp.Warnings, "; "), "waits until") {
		t.Errorf("a write that has nothing wait answers %v, %v", resp, err)
	}
}

func TestByHandOnly(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "1h", "auto_rotate", false))
	m.write("secrets/r/jwt", d("type", "jwt"))
	m.tick(100 * time.Hour)
	if at := m.planned("r"); !at.IsZero() {
		t.Errorf("a role that rotates by hand only is planned for %s", at)
	}
	if status := m.read("status/r", nil); status["next_vault_rotation"] != nil || status["overdue"] != false {
		t.Errorf("its status is %v", status)
	}
	m.write("rotate/r", nil)
	if m.planned("r").IsZero() {
		t.Error("nobody retires what it replaced")
	}
	m.tick(time.Hour)
	m.overlapOver("jwt")
	m.write("roles/r", d("auto_rotate", true))
	if at := m.planned("r"); !at.After(m.clock.now()) {
		t.Errorf("switched on again, it rotates at %s", at)
	}
	if m.version("r") != 2 {
		t.Error("switching it on rotated it")
	}
}

func TestBackoff(t *testing.T) {
	m := newMount(t)
	broken := m.breakable("fragile")
	m.write("roles/r", d("rotation_period", "240h", "retry_interval", "10s", "max_retries", 3))
	m.write("secrets/r/pin", d("type", "random", "password_policy", "fragile"))
	before := m.read("creds/r", nil)["pin_value"]
	broken(errors.New("no entropy"))
	m.clock.advance(240 * time.Hour)
	for failures, most := 1, 10*time.Second; failures <= 3; failures, most = failures+1, 2*most {
		m.tick(0)
		m.eventually("a failure", func() bool { return m.read("status/r", nil)["failures"] == failures && !m.planned("r").IsZero() })
		pause := m.planned("r").Sub(m.clock.now())
		if pause > most || pause < most*3/4-time.Second {
			t.Errorf("after %d failures the pause is %s, want up to %s", failures, pause, most)
		}
		if status := m.read("status/r", nil); !strings.Contains(status["last_error"].(string), "no entropy") || status["needs_attention"] != false {
			t.Errorf("after %d failures the status is %v", failures, status)
		}
		m.clock.advance(pause)
	}
	m.tick(0)
	m.eventually("the last failure", func() bool { return m.read("status/r", nil)["needs_attention"] == true })
	m.tick(1000 * time.Hour)
	if at := m.planned("r"); !at.IsZero() {
		t.Errorf("a role that needs attention is planned for %s", at)
	}
	if m.read("creds/r", nil)["pin_value"] != before {
		t.Error("failures change what is read")
	}
	status := m.read("status/r", nil)
	m.mentions(errors.New(status["advice"].(string)), "stopped after 4 failures", "rotate/r")
	m.fails(422, logical.UpdateOperation, "rotate/r", nil, "secret pin", "create", "fragile", "Nothing was changed")
	m.boot()
	if m.read("status/r", nil)["needs_attention"] != true {
		t.Error("a restart forgets that attention is needed")
	}
	broken(nil)
	m.write("rotate/r", nil)
	if status := m.read("status/r", nil); status["needs_attention"] != false || status["failures"] != 0 || status["last_error"] != "" {
		t.Errorf("after a rotation by hand the status is %v", status)
	}
	m.tick(m.planned("r").Sub(m.clock.now()))
	m.tick(240 * time.Hour)
	m.becomes("r", 3)
	if history := m.read("history/r", nil); history["chain_valid"] != true {
		t.Errorf("the history is %v", history)
	}
}

// TestManyRoles makes more roles due than there are workers.
func TestManyRoles(t *testing.T) {
	m := newMount(t)
	entered, leave := make(chan struct{}, 100), make(chan struct{})
	open := m.gate("gated", entered, leave)
	m.write("config", d("max_workers", 2))
	const roles = 8
	for i := range roles {
		name := fmt.Sprintf("r%d", i)
		m.write("roles/"+name, d("rotation_period", "1h"))
		m.write("secrets/"+name+"/pin", d("type", "random", "password_policy", "gated"))
	}
	open(false)
	m.tick(time.Hour)
	<-entered
	<-entered
	m.eventually("two workers to work, and the other roles to wait", func() bool { // the last is planned when its creation has ended
		due, working := m.b.scheduler.Load()
		return working == 2 && due == roles-2
	})
	close(leave)
	for i := range roles {
		m.becomes(fmt.Sprintf("r%d", i), 2)
	}
}
