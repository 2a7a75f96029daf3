package backend

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// findings are those of a check in an answer.
func findings(answer map[string]any, check string) (found []map[string]any) {
	for _, f := range answer["findings"].([]map[string]any) {
		if f["check"] == check {
			found = append(found, f)
		}
	}
	return found
}

// found expects one finding of a check in what verify answers, and returns what to
// run.
func (m *mount) found(path, check, severity string, words ...string) string {
	m.Helper()
	answer := m.read(path, nil)
	found := findings(answer, check)
	if len(found) != 1 || found[0]["severity"] != severity || answer["ready"] != (severity != "error") {
		m.Fatalf("%s: ready is %v and found are %v, want %s of %s", path, answer["ready"], answer["findings"], severity, check)
	}
	m.mentions(fmt.Errorf("%s", found[0]["detail"]), words...)
	if report := answer["report"].(string); !strings.Contains(report, found[0]["detail"].(string)+"\n"+found[0]["fix"].(string)) {
		m.Errorf("the report does not tell %v:\n%s", found[0], report)
	}
	return found[0]["fix"].(string)
}

// gone expects that a check has passed.
func (m *mount) gone(path, check string) {
	m.Helper()
	answer := m.read(path, nil)
	if found := findings(answer, check); len(found) > 0 {
		m.Errorf("%s: there still is %v", path, found)
	}
	if !slices.ContainsFunc(answer["passed"].([]string), func(p string) bool { return p == check || strings.HasSuffix(p, ": "+check) }) {
		m.Errorf("%s is not among what passed: %v", check, answer["passed"])
	}
}

// command does what a vault write does, as a finding says it.
func (m *mount) command(text string) {
	m.Helper()
	words := strings.Fields(text)
	if len(words) < 3 || words[0] != "vault" || words[1] != "write" || !strings.HasPrefix(words[2], "smvm/") {
		m.Fatalf("%q is no vault write", text)
	}
	data := map[string]any{}
	for _, word := range words[3:] {
		name, value, _ := strings.Cut(word, "=")
		data[name] = strings.Trim(value, "'")
	}
	m.write(strings.TrimPrefix(words[2], "smvm/"), data)
}

func TestVerifyInspects(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	users := s.pair()
	m.write("roles/r", nil)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", users))
	m.write("secrets/r/pin", d("type", "random"))
	answer := m.read("verify/r", nil)
	if answer["ready"] != true || !strings.HasPrefix(answer["report"].(string), "ready; errors: 0, ") {
		t.Errorf("verify answers %v", answer)
	}
	m.gone("verify/r", "database.login")
	s.sql("ALTER ROLE %s NOLOGIN; ALTER ROLE %s VALID UNTIL '%s'", users[1], users[0], time.Now().Add(48*time.Hour).Format(time.RFC3339))
	fix := m.found("verify/r", "database.login", "error", users[1], "may not log in")
	if first := m.read("verify/r", nil)["findings"].([]map[string]any)[0]; first["check"] != "database.login" || first["secret"] != "db" {
		t.Errorf("the first finding is %v", first)
	}
	s.sql("%s", fix)
	m.gone("verify/r", "database.login")
	s.sql("%s", m.found("verify/r", "database.valid_until", "warning", users[0], "before the rotation after the next one"))
	m.gone("verify/r", "database.valid_until")
	if only := m.read("verify/r", d("secrets", "pin")); strings.Contains(fmt.Sprint(only["passed"]), "database") {
		t.Errorf("asked for one secret, verify looks at others: %v", only)
	}
	s.sql("ALTER ROLE %s PASSWORD 'changed-by-hand'", users[0])
	m.command(m.found("verify/r", "secret.valid", "error", "password authentication failed"))
	m.gone("verify/r", "secret.valid")
}

// TestVerifyIsBounded has a server that accepts connections and says nothing.
func TestVerifyIsBounded(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/r", nil)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", s.user()))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	m.write("connections/main", d("port", silent.Addr().(*net.TCPAddr).Port, "verify_connection", false, "connect_timeout", "1s"))
	began := time.Now()
	m.found("verify/r", "database.reachable", "error", "no answer in time")
	if took := time.Since(began); took > verifyTimeout {
		t.Errorf("it took %s", took)
	}
}

// TestInspectPolicy makes times disagree, by the defaults of the mount where a role
// would be refused, and runs what the findings say.
func TestInspectPolicy(t *testing.T) {
	for name, test := range map[string]struct {
		role, spoil     map[string]any
		check, severity string
		words           []string
	}{
		"overlap longer than the period":  {d("overlap", "2h"), d("rotation_period", "1h"), "role.overlap", "error", []string{"is 2h", "the 1h between"}},
		"overlap too short to read again": {d("overlap", "4m", "refresh_interval", "2m"), nil, "", "", nil},
		"refresh longer than the overlap": {d("refresh_interval", "30m"), d("overlap", "40m"), "role.overlap", "error", []string{"twice refresh_interval"}},
		"no room between rotations":       {d("rotation_period", "1h", "overlap", "50m"), nil, "role.overlap", "warning", []string{"overlap of 50m", "the 1h between"}},
		"tokens outlive the overlap":      {nil, d("overlap", "1h"), "jwt.max_ttl", "warning", []string{"max_ttl is 10h", "overlap of 1h"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t)
			m.write("roles/r", test.role)
			m.write("secrets/r/pin", d("type", "random"))
			if test.check == "jwt.max_ttl" {
				m.write("secrets/r/token", d("type", "jwt", "max_ttl", "10h"))
			}
			if test.spoil != nil {
				m.write("config", test.spoil)
			}
			if test.check == "" {
				m.gone("verify/r", "role.overlap")
				return
			}
			m.command(m.found("verify/r", test.check, test.severity, test.words...))
			m.gone("verify/r", test.check)
		})
	}
}

// TestInspectSingleUser is about how long logins are refused with one user.
func TestInspectSingleUser(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/r", nil)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", s.user()))
	m.command(m.found("verify/r", "database.single_user", "warning", "for 5m (refresh_interval)"))
	m.gone("verify/r", "database.single_user")
}

// TestInspectChecks asks an application that is not there yet. What is asked has
// none of the role's values, and is not judged.
func TestInspectChecks(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "headers", "X-API-Key: {{api_key}}", "method", "POST", "phase", "before")
	a.status.Store(http.StatusInternalServerError)
	asked := make(chan *http.Request, 10)
	answering := a.Config.Handler
	a.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		answering.ServeHTTP(w, r)
	})
	m.gone("verify", "check.reachable")
	if r := <-asked; len(asked) > 0 || r.Method != http.MethodHead || r.Header.Get("X-API-Key") != "" {
		t.Errorf("the application was asked %s %v, and %d times more", r.Method, r.Header, len(asked))
	}
	a.Close()
	m.found("verify", "check.reachable", "error", a.URL, "check health", "before a rotation", "connection refused")
	m.write("checks/default/health", d("on_failure", "alert"))
	m.found("verify", "check.reachable", "warning", a.URL)
}

// TestInspectChecksThatFail has an application refuse what a rotation would ask it first: that
// is told before there is a rotation, where the request has no value in it. Who may get no
// value is not said to be down.
func TestInspectChecksThatFail(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "phase", "before")
	m.gone("verify", "check.answer")
	a.status.Store(http.StatusForbidden)
	m.found("verify", "check.answer", "error", "check health fails before a rotation", a.URL+"/health answers GET with status 403, expected 200 to 299")
	m.gone("verify", "check.reachable")
	resp, err := m.try(logical.UpdateOperation, "rotate", d("dry_run", true))
	if answer := m.must(resp, err); answer["ready"] != false || !strings.Contains(answer["report"].(string), "status 403") {
		t.Errorf("a dry run answers %v", answer)
	}
	m.write("checks/default/health", d("on_failure", "alert"))
	m.found("verify", "check.answer", "warning")
	m.write("checks/default/health", d("expected_status", "403"))
	m.gone("verify", "check.answer")
	m.write("checks/default/health", d("headers", "X-API-Key: {{api_key}}", "expected_status", "200"))
	m.gone("verify", "check.outbound")
	if all := fmt.Sprint(m.read("verify", nil)); strings.Contains(all, "check.answer") {
		t.Errorf("what values make of the answer is not known before they are sent: %s", all)
	}
	m.write("config", d("outbound_hosts", "other.example.com"))
	m.found("verify", "check.outbound", "warning", "the engine does not send check health", "outbound_hosts does not name it", "vault write smvm/config outbound_hosts=other.example.com,checks=127.0.0.1:")
	if all := fmt.Sprint(m.read("verify", nil)); strings.Contains(all, "nothing answers") {
		t.Errorf("verify says that nothing answers: %s", all)
	}
}

// TestWritesThatStopRequests shortens outbound_hosts: the answer names what is not sent any
// more, and what puts the list back.
func TestWritesThatStopRequests(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "headers", "X-API-Key: {{api_key}}")
	m.write("alerts/hook", d("type", "webhook", "url", "http://127.0.0.1:1/", "key", strings.Repeat("k", 16)))
	m.write("alerts/free", d("type", "webhook", "url", "http://127.0.0.1:1/"))
	m.write("destinations/copy", d("type", "webhook", "url", "http://127.0.0.1:1/", "key", strings.Repeat("k", 16), "values", "x={{api_key}}", "verify", false))
	m.write("config", d("outbound_hosts", "127.0.0.1,*.example.com"))
	m.warns(logical.UpdateOperation, "config", d("outbound_hosts", "checks=127.0.0.1"), "sends nothing for alerts/hook, destinations/copy, because")
	m.write("config", d("outbound_hosts", "127.0.0.1,*.example.com"))
	m.warns(logical.DeleteOperation, "config", nil, "sends nothing for alerts/hook, checks/default/health, destinations/copy, because outbound_hosts does not name their hosts now", "vault write smvm/config 'outbound_hosts=127.0.0.1,*.example.com'")
	if resp, err := m.try(logical.UpdateOperation, "config", d("environment", "test")); m.must(resp, err) != nil || resp != nil {
		t.Errorf("another field is answered %v", resp)
	}
	m.storage.FailList(true)
	m.warns(logical.UpdateOperation, "config", d("outbound_hosts", "checks=127.0.0.1"), "config is stored", "could not look")
	m.storage.FailList(false)
	if hosts := fmt.Sprint(m.read("config", nil)["outbound_hosts"]); hosts != "[checks=127.0.0.1]" {
		t.Errorf("outbound_hosts is %s", hosts)
	}
}

// TestInspectState is about a role that has given up, and one that is nearly full.
func TestInspectState(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/pin", d("type", "random"))
	m.gone("verify/r", "role.storage")
	m.restate("r", func(s *rotation.State) { s.NeedsAttention, s.Failures, s.LastError = true, 8, "the reason" })
	m.command(m.found("verify/r", "role.attention", "error", "8 failures", "the reason"))
	m.gone("verify/r", "role.attention")
	m.listed("127.0.0.1")
	for i := range 12 {
		m.write(fmt.Sprint("checks/r/c", i), d("url", "http://127.0.0.1:1/", "on_failure", "alert", "body", strings.Repeat("x", 50<<10+i)))
	}
	m.found("verify/r", "role.storage", "warning", "Its largest part is check c11")
	m.write("checks/r/c0", d("body", ""))
	m.gone("verify/r", "role.storage")
}

// TestDryRunTells what a rotation would do, with what verify found, and changes
// neither storage nor PostgreSQL.
func TestDryRunTells(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	s := m.connect()
	users, single := s.pair(), s.user()
	m.write("roles/r", nil)
	m.write("secrets/r/a", d("type", "database", "connection", "main", "usernames", single))
	m.write("secrets/r/b", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", users))
	m.write("secrets/r/c", d("type", "random"))
	m.write("checks/r/health", d("url", a.URL+"/before", "phase", "before"))
	m.write("checks/r/works", d("url", a.URL+"/after"))
	s.sql("ALTER ROLE %s BYPASSRLS", users[0])
	before, catalog := m.storage.contents(t), s.catalog()
	answer := m.write("rotate/r", d("dry_run", true))
	m.storage.same(t, before)
	if s.catalog() != catalog {
		t.Error("a dry run has changed PostgreSQL's catalog")
	}
	if a.asked.Load() != 3 { // once for each check, and that before the rotation as it is
		t.Errorf("the application was asked %d times", a.asked.Load())
	}
	if answer["ready"] != true || len(findings(answer, "database.attributes")) != 1 || answer["a_steps"] != "would pass" {
		t.Errorf("a dry run answers %v", answer)
	}
	if verified := m.read("verify/r", nil); fmt.Sprint(findings(verified, "database.attributes")) != fmt.Sprint(findings(answer, "database.attributes")) {
		t.Errorf("verify finds something else: %v", verified["findings"])
	}
	want := []string{"/before, before the engine changes anything", "save them as pending", users[1] + " the new password of b", "new value of c", single + " the new password of a, which ends the one in use", "version 4", "/after, after", "overlap of 24h"}
	plan := answer["plan"].([]string)
	if len(plan) != len(want) {
		t.Fatalf("the plan is %q", plan)
	}
	if !strings.HasSuffix(answer["report"].(string), "\n8. "+plan[7]) {
		t.Errorf("the report does not tell the plan: %s", answer["report"])
	}
	for i, words := range want {
		if !strings.Contains(plan[i], words) {
			t.Errorf("step %d is %q, want one with %q", i+1, plan[i], words)
		}
	}
	s.sql("ALTER ROLE %s NOLOGIN", users[1])
	m.refused(logical.UpdateOperation, "rotate/r", d("dry_run", true), "would fail", "LOGIN;")
}

// catalog is what the server knows of roles and passwords.
func (s *server) catalog() (all string) {
	s.Helper()
	err := s.session().QueryRow(s.Context(), `SELECT concat(
		(SELECT string_agg(concat(xmin, a), e'\n' ORDER BY oid) FROM pg_authid a), (SELECT string_agg(concat(xmin, m), e'\n' ORDER BY roleid, member) FROM pg_auth_members m),
		(SELECT string_agg(concat(xmin, s), e'\n' ORDER BY setrole, setdatabase) FROM pg_db_role_setting s))`).Scan(&all)
	if err != nil {
		s.Fatal(err)
	}
	return all
}
