package backend

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/drift"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// orders is the role r with both kinds of database secrets and a key, in overlap.
func (s *server) orders() {
	s.Helper()
	s.write("roles/r", d("rotation_period", "1h"))
	s.write("secrets/r/one", d("type", "database", "connection", "main", "usernames", s.user()))
	s.write("secrets/r/two", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", s.pair()))
	s.write("secrets/r/jwt", d("type", "jwt"))
	s.write("rotate/r", nil)
}

// TestRotateWithoutRepair replaces the values of a restored snapshot, which the server
// refuses, without setting them again first.
func TestRotateWithoutRepair(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	snapshot, stored := m.storage.copied(t), m.read("creds/r", nil)
	for range 2 {
		m.write("rotate/r", d("revoke_previous", true))
	}
	m.storage = snapshot
	m.boot()
	m.write("rotate/r", d("revoke_previous", true, "reason", "restored"))
	if report := m.read("verify/r", nil); report["valid"] != true || report["advice"] != "" {
		t.Errorf("verify reports %v", report)
	}
	for _, name := range []string{"one", "two"} {
		if err := logIn(t, stored[name+"_username"], stored[name+"_password"]); err == nil {
			t.Errorf("the restored value of %s works", name)
		}
	}
}

// TestRepair restores what was stored before a few rotations.
func TestRepair(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	snapshot, want := m.storage.copied(t), m.read("creds/r", nil)
	previous := m.read("creds/r", d("stage", "previous"))
	for range 2 {
		m.write("rotate/r", d("revoke_previous", true))
	}
	m.storage = snapshot
	m.boot()
	report := m.read("verify/r", nil)
	for _, words := range []string{"secret one, the current value", "secret two, the current value", "the previous value", "verify/r with repair=true", "rotate/r"} {
		if !strings.Contains(report["advice"].(string), words) {
			t.Errorf("the advice lacks %q: %v", words, report["advice"])
		}
	}
	if report["valid"] != false || strings.Contains(report["advice"].(string), "jwt") {
		t.Errorf("verify reports %v", report)
	}
	m.eventually("the check after the start", func() bool {
		return strings.Contains(fmt.Sprint(m.read("status/r", nil)["advice"]), "secret one, the current value") &&
			strings.Contains(m.said.text(), "a server refuses a stored value")
	})
	resp, err := m.try(logical.UpdateOperation, "verify/r", d("repair", true, "reason", "restored"))
	if m.must(resp, err)["version"] != want["version"] || !strings.Contains(fmt.Sprint(resp.Warnings), "the engine set it again") {
		t.Errorf("the repair answers %v", resp)
	}
	if got := m.read("creds/r", nil); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Error("what is read changed")
	}
	for _, creds := range []map[string]any{want, previous} {
		if err := logIn(t, creds["two_username"], creds["two_password"]); err != nil {
			t.Error(err)
		}
	}
	if report := m.read("verify/r", nil); report["valid"] != true || report["advice"] != "" {
		t.Errorf("afterwards verify reports %v", report)
	}
	if status := m.read("status/r", nil); status["advice"] != "" || status["in_flight"] != nil {
		t.Errorf("afterwards the status is %v", status)
	}
	m.write("rotate/r", nil)
	if h := m.read("history/r", nil); h["chain_valid"] != true {
		t.Errorf("the history is %v", h)
	}
}

func TestRepairRefusesWhatIsNotMeant(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.refused(logical.UpdateOperation, "verify/r", d("repair", true), "no secrets yet")
	m.write("secrets/r/jwt", d("type", "jwt"))
	for _, data := range []map[string]any{nil, d("repair", false)} {
		m.refused(logical.UpdateOperation, "verify/r", data, "repair", "repair=true")
	}
	m.refused(logical.UpdateOperation, "verify/r", d("repair", true, "secrets", "nope"), `no secret "nope"`)
	m.refused(logical.UpdateOperation, "verify/r", d("repair", true, "wait", "2m"), "wait")
	m.refused(logical.UpdateOperation, "verify/nope", d("repair", true), "nope")
	m.refused(logical.ReadOperation, "verify/r", d("secrets", "nope"), `no secret "nope"`)
}

// TestLostAdministrator has a stored administrator's password that the server no
// longer takes: the engine cannot help itself, and says what helps.
func TestLostAdministrator(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	snapshot := m.storage.copied(t)
	m.write("rotate-root/main", nil)
	m.write("rotate/r", d("revoke_previous", true))
	m.storage = snapshot
	m.boot()
	const what = "was restored from an older snapshot"
	do := `\password "` + s.admin + `"`
	m.fails(422, logical.UpdateOperation, "verify/r", d("repair", true), `use connection "main"`, what, do, "No value was changed")
	m.fails(422, logical.UpdateOperation, "rotate/r", nil, what, do)
	m.fails(422, logical.UpdateOperation, "rotate-root/main", nil, what, do)
	m.eventually("the check after the start", func() bool {
		return strings.Contains(fmt.Sprint(m.read("connections/main", nil)["advice"]), "connections/main")
	})
	s.password = "second-" + uid(t)
	s.sql("ALTER ROLE %s PASSWORD '%s'", s.admin, s.password)
	m.write("connections/main", s.described())
	m.write("verify/r", d("repair", true))
	m.write("rotate/r", nil)
	if report := m.read("verify/r", nil); report["valid"] != true {
		t.Errorf("afterwards verify reports %v", report)
	}
}

// TestChecksLeaveOperationsAlone is about what was found while an operation was
// under way, or is over.
func TestChecksLeaveOperationsAlone(t *testing.T) {
	m := withoutTries(t)
	s := m.connect()
	s.orders()
	r, err := m.b.findRole(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	one := drift.Login{Role: r, Secret: "one", Connection: "main"}
	wait, hold := s.lock()
	user := m.read("creds/r", nil)["one_username"]
	s.sql("ALTER ROLE %s PASSWORD 'changed-by-hand'", user)
	m.write("secrets/r/one", d("verification_statements", []any{wait}))
	release := hold()
	if answer := m.write("rotate/r", d("wait", 0, "secrets", "one")); answer["status"] != "in_progress" {
		t.Fatalf("rotate answers %v", answer)
	}
	if _, err := m.b.drift.Check(t.Context(), one); !errors.Is(err, rotation.ErrInFlight) || m.b.drift.Advice(r) != "" {
		t.Errorf("during a rotation: %v, %q; want that the login is tried later", err, m.b.drift.Advice(r))
	}
	release()
	m.eventually("the rotation", func() bool { return !r.Busy() })
	s.sql("ALTER ROLE %s PASSWORD 'changed-by-hand'", user)
	if _, err := m.b.drift.Check(t.Context(), one); err != nil || m.b.drift.Advice(r) == "" {
		t.Errorf("after it: %v, %q", err, m.b.drift.Advice(r))
	}
	m.write("rotate/r", nil)
	if advice := m.b.drift.Advice(r); advice != "" {
		t.Errorf("after the next one: %q", advice)
	}
	s.sql("ALTER ROLE %s PASSWORD 'changed-by-hand'", user)
	if _, err := m.b.drift.Check(t.Context(), one); err != nil || m.b.drift.Advice(r) == "" {
		t.Errorf("before a repair: %v, %q", err, m.b.drift.Advice(r))
	}
	m.write("verify/r", d("repair", true))
	if advice := m.b.drift.Advice(r); advice != "" {
		t.Errorf("after a repair: %q", advice)
	}
}

// TestChecksComeBack has a server that cannot be asked: what is stored for it is tried
// when it answers.
func TestChecksComeBack(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	if all := len(drift.Logins(m.b.registry.Known(roles.Prefix+"r"), "")); all != 2 {
		t.Fatalf("%d logins are checked, want two", all)
	}
	door := doorTo(t)
	door.Stall()
	m.write("connections/main", d("port", door.Port, "verify_connection", false, "connect_timeout", 1))
	m.eventually("that the server does not answer", func() bool { return m.b.drift.Interrupted("main") })
	s.sql("ALTER ROLE %s PASSWORD 'changed-by-hand'", m.read("creds/r", nil)["one_username"])
	if err := door.Heal(); err != nil {
		t.Fatal(err)
	}
	// Each try that is held up costs 10 s more; without the question whether the server is
	// back, the first would come after a minute.
	m.within(50*time.Second, "what a server refuses that is back", func() bool {
		return strings.Contains(fmt.Sprint(m.read("status/r", nil)["advice"]), "secret one")
	})
}
