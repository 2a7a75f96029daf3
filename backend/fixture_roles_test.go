package backend

import (
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// connections are one in use, whose password was rotated, and one that is gone.
// Nothing listens at their address.
func (m *maker) connections() {
	m.Helper()
	for _, name := range []string{"main", "gone"} {
		m.ask(logical.UpdateOperation, "connections/"+name, d("host", "127.0.0.1", "port", 1, "database", "postgres", "sslmode", "disable",
			"username", "fixture_admin", "password", "fixture-first-password", "verify_connection", false, "connect_timeout", "1s"))
	}
	m.rotate("main", rotation.Request{RevokePrevious: true})
	m.ask(logical.DeleteOperation, "connections/gone", nil)
}

const (
	pair   = `{"connection":"main","rotation_strategy":"alternating_users","usernames":["fixture_a","fixture_b"],"verification_statements":["SELECT 1"]}`
	idle   = `{"connection":"main","rotation_strategy":"alternating_users","usernames":["fixture_c","fixture_d"]}`
	single = `{"connection":"main","usernames":["fixture_single"]}`
	old    = `{"connection":"main","usernames":["fixture_legacy"],"rotation_statements":["ALTER ROLE \"{{username}}\" PASSWORD '{{password}}'"]}`
)

// atRest makes the roles that nothing is under way in: every type of secret, both
// strategies, values that were made, imported and rolled back to, in overlap and
// after it, every way to schedule, a role that needs attention, one that is gone.
func (m *maker) atRest() {
	m.Helper()
	m.ask(logical.UpdateOperation, "roles/orders", d("rotation_period", "30d", "overlap", "2d", "refresh_interval", "10m"))
	m.add("orders", "db", databaseType, pair, nil)
	m.add("orders", "jwt", jwtType, `{"algorithm":"HS512"}`, nil)
	m.add("orders", "api", apiKeyType, `{"prefix":"orders"}`, nil)
	m.add("orders", "pin", "random", `{"length":40}`, nil)
	m.rotate("orders", rotation.Request{Reason: "a fixture", RequestID: "request-rotate"})
	m.rotate("orders", rotation.Request{Kind: rotation.KindRollback, Secrets: []string{"jwt"}})

	m.ask(logical.UpdateOperation, "roles/legacy", d("rotation_schedule", "0 3 * * 0", "rotation_window", "2h"))
	m.add("legacy", "db", databaseType, old, rotation.Material{"username": "fixture_legacy", "password": "fixture-imported-password"})
	m.rotate("legacy", rotation.Request{})

	m.ask(logical.UpdateOperation, "roles/manual", d("auto_rotate", false))
	m.add("manual", "jwt", jwtType, `{}`, nil)
	m.rotate("manual", rotation.Request{RevokePrevious: true})

	m.ask(logical.UpdateOperation, "roles/weekly", d("rotation_period", "7d"))
	m.add("weekly", "jwt", jwtType, `{}`, nil)
	m.rotate("weekly", rotation.Request{})

	m.ask(logical.UpdateOperation, "roles/tired", d("rotation_period", "1m", "overlap", "20s", "refresh_interval", "5s", "max_retries", 1))
	m.add("tired", "pin", "random", `{"password_policy":"gone"}`, rotation.Material{"value": "fixture-imported-value"})
	for range 2 {
		m.clock.advance(5 * time.Minute)
		if m.do("tired", rotation.Request{Kind: rotation.KindRotate, Trigger: rotation.TriggerSchedule}) == nil {
			m.Error("a rotation with a policy that is not there worked")
		}
	}

	m.ask(logical.UpdateOperation, "roles/gone", nil)
	m.add("gone", "jwt", jwtType, `{}`, nil)
	m.rotate("gone", rotation.Request{})
	m.ask(logical.DeleteOperation, "secrets/gone/jwt", nil)
	m.ask(logical.DeleteOperation, "roles/gone", nil)
}

// inFlight makes the roles that a process died over: where no target has to be
// asked, where targets turn out to accept what is pending, where they do not, and
// at the end of an overlap.
func (m *maker) inFlight() {
	m.Helper()
	m.ask(logical.UpdateOperation, "roles/local", d("rotation_period", "30d"))
	m.add("local", "jwt", jwtType, `{}`, nil)
	m.add("local", "api", apiKeyType, `{}`, nil)
	m.ask(logical.UpdateOperation, "roles/forward", d("rotation_period", "30d"))
	m.add("forward", "db", databaseType, single, nil)
	m.add("forward", "jwt", jwtType, `{}`, nil)
	m.ask(logical.UpdateOperation, "roles/back", d("rotation_period", "30d"))
	m.add("back", "db", databaseType, idle, nil)
	m.ask(logical.UpdateOperation, "roles/retiring", d("rotation_period", "30d", "overlap", "1m", "refresh_interval", "5s"))
	m.add("retiring", "jwt", jwtType, `{}`, nil)
	m.rotate("retiring", rotation.Request{})
	m.clock.advance(time.Minute)
	for _, death := range []struct {
		role, step string
		kind       rotation.Kind
	}{
		{"local", "jwt.test", rotation.KindRotate},
		{"forward", "db.test", rotation.KindRotate},
		{"back", "db.set", rotation.KindRotate},
		{"retiring", "jwt.retire", rotation.KindRetire},
	} {
		m.reopen()
		m.dies = death.step
		if m.do(death.role, rotation.Request{Kind: death.kind, RequestID: "request-" + death.role}) == nil {
			m.Errorf("%s was not interrupted", death.role)
		}
	}
}
