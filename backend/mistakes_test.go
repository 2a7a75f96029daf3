package backend

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/notify"
)

// TestNamesAlike has, of each kind of thing that has a name, a second one whose name differs
// only in case: people, and files that are called so, take one for the other.
func TestNamesAlike(t *testing.T) {
	m := newMount(t)
	m.listed("orders.example.com")
	connection := d("host", "192.0.2.1", "database", "orders", "username", "u", "password", "password-0123456789", "verify_connection", false)
	for _, each := range []struct {
		path string
		data map[string]any
	}{
		{"roles/", nil},
		{"secrets/shop/", d("type", "random")},
		{"checks/shop/", d("url", "https://orders.example.com/")},
		{"connections/", connection},
		{"alerts/", d("type", "webhook", "url", "https://orders.example.com/", "events", "rotation_overdue")},
		{"destinations/", d("type", "webhook", "url", "https://orders.example.com/", "key", "0123456789abcdef", "values", "x={{shop_value}}", "verify", false)},
	} {
		m.write(each.path+"shop", each.data)
		m.refused(logical.UpdateOperation, each.path+"Shop", each.data, `"Shop" differs from "shop"`, "upper and lower case")
		m.write(each.path+"shop", each.data)
		m.write(each.path+"shop2", each.data)
	}
	m.delete("connections/shop")
	m.write("connections/Shop", connection) // of one that is gone, only the history is left
}

// TestNamesOfNoRole is about lists of roles: what no role can be called would allow nothing,
// and what none is called so far is worth a word.
func TestNamesOfNoRole(t *testing.T) {
	m := newMount(t)
	m.write("roles/default", nil)
	for path, data := range map[string]map[string]any{
		"connections/c":  d("host", "192.0.2.1", "database", "orders", "username", "u", "password", "password-0123456789", "verify_connection", false),
		"destinations/d": d("type", "webhook", "url", "http://127.0.0.1:1/", "key", "0123456789abcdef", "values", "x={{y_value}}", "verify", false),
	} {
		for _, roles := range []any{"default shop", "a;b", "-a", []any{"default", "my shop*"}} {
			m.refused(logical.UpdateOperation, path, but(data, "allowed_roles", roles), "allowed_roles", "is no name of a role", "default,orders")
		}
	}
	m.write("connections/c", d("host", "192.0.2.1", "database", "orders", "username", "u", "password", "password-0123456789", "verify_connection", false, "allowed_roles", "default,shop-*,*"))
	hook := d("type", "webhook", "url", "http://127.0.0.1:1/", "events", "rotation_overdue")
	m.warns(logical.UpdateOperation, "alerts/a", but(hook, "roles", "default,defualt,connections/main"), `there is no role "defualt" now; there is: default`, `there is no connection "main" now; there is: c`)
	if resp, err := m.try(logical.UpdateOperation, "alerts/a", d("roles", "default,connections/c")); m.must(resp, err) != nil || resp != nil {
		t.Errorf("roles that there are: %v", resp)
	}
}

// TestLineEnds gives each secret that is stored with the line break of the file it was in.
func TestLineEnds(t *testing.T) {
	m := newMount(t)
	m.write("roles/decent", nil)
	tried := 0
	for _, path := range m.b.Paths {
		for name, field := range path.Fields {
			if path.Operations[logical.CreateOperation] == nil || field.DisplayAttrs == nil || !field.DisplayAttrs.Sensitive {
				continue
			}
			tried++
			at := pathWith(path, "", "")
			m.refused(logical.UpdateOperation, at, d(name, "0123456789abcdef\n"), name+": ends in a line break", "printf %s", name+"=-")
			m.refused(logical.UpdateOperation, at, d(name, "0123456789abcdef\r\n"), name+": ends in a line break")
			if err := checkFields(path, d(name, "-----BEGIN X-----\nabc\n-----END X-----\n")); err != nil {
				t.Errorf("%s: a text of several lines: %v", name, err)
			}
		}
	}
	if tried < 10 {
		t.Errorf("only %d fields are secrets", tried)
	}
}

// TestWithoutUnit warns of numbers that were meant as days or hours.
func TestWithoutUnit(t *testing.T) {
	m := newMount(t)
	m.warns(logical.UpdateOperation, "config", d("rotation_period", 90, "overlap", 40, "refresh_interval", 10), "rotation_period is 90 seconds", "rotation_period=90d", "overlap is 40 seconds", "overlap=40h")
	m.warns(logical.UpdateOperation, "roles/r", d("rotation_period", "90"), "rotation_period is 90 seconds, because a number without a unit is in seconds", "rotation_period=90d")
	m.warns(logical.UpdateOperation, "alerts/a", d("type", "webhook", "url", "http://127.0.0.1:1/", "notice", 5), "notice is 5 seconds", "notice=5d")
	for _, data := range []map[string]any{d("rotation_period", "90s"), d("rotation_period", 3600, "overlap", 600), d("rotation_period", "90d"), nil} {
		if resp, err := m.try(logical.UpdateOperation, "roles/r", data); m.must(resp, err) != nil || resp != nil {
			t.Errorf("%v is answered %v", data, resp)
		}
	}
}

// TestShorterRefresh says when applications learn of a shorter refresh_interval.
func TestShorterRefresh(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "90d"))
	m.write("secrets/r/pin", d("type", "random"))
	m.warns(logical.UpdateOperation, "roles/r", d("refresh_interval", "30s"), "refresh_interval is 30s now", "after up to 5m")
	if resp, err := m.try(logical.UpdateOperation, "roles/r", d("refresh_interval", "1m")); m.must(resp, err) != nil || resp != nil {
		t.Errorf("a longer one is answered %v", resp)
	}
}

// TestShortKeys are refused where they sign, and one that is stored is left alone.
func TestShortKeys(t *testing.T) {
	m := newMount(t)
	m.listed("127.0.0.1")
	hook := d("type", "webhook", "url", "http://127.0.0.1:1/", "events", "rotation_overdue")
	m.refused(logical.UpdateOperation, "alerts/a", but(hook, "key", "abc"), "key: has 3 characters", "16 or more", "openssl rand -hex 32")
	m.refused(logical.UpdateOperation, "destinations/d", d("type", "webhook", "url", "http://127.0.0.1:1/", "values", "x={{y}}", "verify", false, "key", "abc"), "key", "16 characters", "openssl rand -hex 32")
	m.write("alerts/a", but(hook, "key", strings.Repeat("k", 16)))
	var stored notify.Config
	if _, err := m.b.store.Read(t.Context(), notify.Prefix+"a", &stored); err != nil {
		t.Fatal(err)
	}
	stored.Key = "abc" // as an earlier version took it
	if err := m.b.store.Write(t.Context(), notify.Prefix+"a", stored); err != nil {
		t.Fatal(err)
	}
	m.write("alerts/a", d("notice", "2d"))
}

// TestTwoHeadersInOne is about what would be one wrong header.
func TestTwoHeadersInOne(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a)
	for _, header := range []string{"X-A: {{api_key}},X-B: {{jwt_token}}", "X-A:1, X-B:two", "X-A: 1,X-B:"} {
		m.refused(logical.UpdateOperation, "checks/default/other", d("url", a.URL, "headers", header), "headers", "two headers in one text", "headers='X-A: …' headers='X-B: …'")
	}
	for _, header := range []string{"Accept: text/html, application/json", "If-Modified-Since: Wed, 21 Oct 2015 07:28:00 GMT", "X-Hosts: a:80,b:90", "Link: <http://a>, http://b", `Authorization: Digest username="x",uri="http://a"`} {
		m.write("checks/default/other", d("url", a.URL, "headers", header))
	}
}

// TestMissingConnection lists those that there are.
func TestMissingConnection(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	secret := d("type", "database", "usernames", "orders_a")
	m.refused(logical.UpdateOperation, "secrets/r/db", secret, "connection: is missing", "there is: none yet")
	m.connect()
	m.refused(logical.UpdateOperation, "secrets/r/db", secret, "connection: is missing", "there is: main")
}

// TestStatementsThatFailAreStoredWithAWarning tries new verification statements as the
// current login: otherwise the next rotation would be the first to notice.
func TestStatementsThatFailAreStoredWithAWarning(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/r", nil)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", s.user()))
	wrong := d("verification_statements", []string{"SELECT 1", "SELEC 1"})
	m.warns(logical.UpdateOperation, "secrets/r/db", wrong, "verification_statements: the engine stored them, but a rotation would fail now", "statement 2", "syntax_error")
	m.fails(http.StatusUnprocessableEntity, logical.UpdateOperation, "rotate/r", nil, "statement 2")
	for _, data := range []map[string]any{wrong, d("verification_statements", "SELECT 1"), d("verification_statements", "")} {
		if resp, err := m.try(logical.UpdateOperation, "secrets/r/db", data); m.must(resp, err) != nil || resp != nil {
			t.Errorf("%v is answered %v", data, resp)
		}
	}
}

// TestMightyUsers are an administrator, and a user, who are superusers.
func TestMightyUsers(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.sql("ALTER ROLE %s SUPERUSER", s.admin)
	m.warns(logical.UpdateOperation, "connections/other", s.described(), "is a superuser", "postgresql.sql")
	s.sql("ALTER ROLE %s NOSUPERUSER", s.admin)
	m.write("roles/r", nil)
	resp, err := m.try(logical.UpdateOperation, "secrets/r/db", d("type", "database", "connection", "main", "usernames", testenv.Superuser))
	if err != nil || !resp.IsError() || !strings.Contains(resp.Error().Error(), "use another user") || strings.Contains(resp.Error().Error(), "NOSUPERUSER") {
		t.Errorf("the only superuser as an application's user: %v, %v", resp, err)
	}
}

// TestStatusReport is the status for people.
func TestStatusReport(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "90d"))
	m.write("secrets/r/pin", d("type", "random"))
	m.write("secrets/r/key", d("type", "api_key"))
	m.write("rotate/r", nil)
	report := fmt.Sprint(m.read("status/r", nil)["report"])
	for _, line := range []string{
		"role r: version 3; the next rotation starts 2026-05-30T", "secret key (api_key): current is version 3, previous is version 2 until 2026-03-02T12:00:00Z\n",
		"secret pin (random): current is version 3, previous is version 1 until ", "overlap: ", "to do: nothing\n",
	} {
		if !strings.Contains(report, line) {
			t.Errorf("the report lacks %q:\n%s", line, report)
		}
	}
	if strings.Contains(report, "map[") || strings.Contains(report, "<nil>") {
		t.Errorf("the report is not for people:\n%s", report)
	}
}

// TestEventsOfARotationBelongTogether has a check follow a rotation, and fail once: all that
// is told has the id of the rotation that started, and who started it.
func TestEventsOfARotationBelongTogether(t *testing.T) {
	m, a, r := newMount(t), newApplication(t), newReceiver(t)
	watchedRole(m, a, "attempts", 1)
	m.clock.advance(time.Second)
	m.write("alerts/hook", d("type", "webhook", "url", r.URL+"/hook", "events", "rotation_started,rotation_completed,application_degraded,rotation_rolled_back"))
	m.write("rotate", nil)
	m.receives(r, "rotation_started", "rotation_completed")
	a.status.Store(http.StatusInternalServerError)
	m.fails(http.StatusUnprocessableEntity, logical.UpdateOperation, "rotate", nil, "rolled back")
	m.eventually("the rollback to be told", func() bool { return len(r.names()) >= 5 })
	r.mu.Lock()
	defer r.mu.Unlock()
	for first, events := range map[int][]notify.Event{0: r.events[:2], 2: r.events[2:5]} {
		for _, e := range events {
			if e.RotationID == "" || e.RotationID != r.events[first].RotationID {
				t.Errorf("%s is of %s, and the rotation is %s", e.Event, e.RotationID, r.events[first].RotationID)
			}
			if e.Time.Nanosecond() != 0 {
				t.Errorf("%s is of %v", e.Event, e.Time)
			}
		}
	}
	if completed := r.events[1]; completed.Trigger != "manual" {
		t.Errorf("a rotation by hand was completed by trigger %s", completed.Trigger)
	}
}

// TestARefusalBeforeIsAnswered has a check that takes longer to fail than requests wait
// otherwise: the answer is that it failed, and not that nothing has begun.
func TestARefusalBeforeIsAnswered(t *testing.T) {
	t.Parallel()
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "phase", "before", "attempts", 2, "interval", "6s")
	a.status.Store(http.StatusServiceUnavailable)
	rotate := m.request(logical.UpdateOperation, "rotate", nil)
	delete(rotate.Data, "wait")
	resp, err := m.send(rotate)
	if err == nil || statusOf(err) != http.StatusUnprocessableEntity {
		t.Fatalf("rotate answers %v, %v", resp, err)
	}
	m.mentions(err, "check health before the rotation", "Nothing was changed")
	if answer := m.write("rotate", d("wait", 0)); answer["status"] != "in_progress" {
		t.Errorf("a request that does not wait is answered %v", answer)
	}
}

// TestHardlyMeant has what is allowed, and is most likely a mistake, answered by a warning,
// and what is meant by none.
func TestHardlyMeant(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	user := s.user()
	const update = logical.UpdateOperation
	m.warns(update, "roles/r", d("rotation_period", 2592000000), "rotation_period is 30000d", "rotation_period=90d")
	m.warns(update, "roles/r", d("rotation_schedule", "*/5 * * * *"), "overlap is 2m30s and refresh_interval 1m15s")
	silent := func(op logical.Operation, path string, data map[string]any) {
		t.Helper()
		if resp, err := m.try(op, path, data); err != nil || resp != nil && (resp.IsError() || len(resp.Warnings) > 0) {
			t.Errorf("%s answers %v, %v", path, resp, err)
		}
	}
	silent(update, "roles/r", d("rotation_period", "90d"))
	m.write("secrets/r/api", d("type", "api_key"))
	m.listed("orders.example.com")
	key := d("url", "https://orders.example.com/", "headers", "X-API-Key: {{api_key}}", "interval", 2)
	m.warns(update, "checks/r/key", key, "4s after the commit", "up to 5m later", "Set delay=5m")
	m.warns(update, "checks/r/key", d("delay", "5m", "watch_period", 10, "interval", 30), "watch_period is 10s", "interval, which is 30s")
	silent(update, "checks/r/key", d("watch_period", "1m"))
	silent(update, "checks/r/health", d("url", "https://orders.example.com/"))
	m.warns(update, "checks/r/itself", d("url", "https://orders.example.com/v1/team/smvm/rotate/r", "method", "PUT"), "writes to this engine", "no answer in time")
	silent(update, "checks/r/itself", d("url", "https://orders.example.com/v1/team/smvm/status/r", "method", "GET"))
	silent(update, "checks/r/itself", d("url", "https://orders.example.com/v1/smvm-orders", "method", "PUT"))
	m.warns(logical.CreateOperation, "connections/second", s.described(), "connection main logs in to the same server", "PostgreSQL refuses the other")
	s.sql("ALTER ROLE %s PASSWORD 'earlier-0123456789'", user)
	end := s.loggedIn(user, "earlier-0123456789")
	defer end()
	m.warns(logical.CreateOperation, "secrets/r/db", d("type", "database", "connection", "main", "usernames", user), "1 open sessions", "skip_import_rotation=true")
}
