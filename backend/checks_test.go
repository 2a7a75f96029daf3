package backend

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// application is one that accepts the key it was told to, and may be made sick.
type application struct {
	*httptest.Server
	accepts atomic.Pointer[string] // nil: any
	status  atomic.Int64
	asked   atomic.Int64
	pause   atomic.Int64
}

func newApplication(t *testing.T) *application {
	a := &application{}
	a.status.Store(http.StatusOK)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := int(a.status.Load()) // as it is when the request comes, not when a test has seen that it came
		a.asked.Add(1)
		time.Sleep(time.Duration(a.pause.Load())) // the latency that is measured
		if key := a.accepts.Load(); key != nil && r.Header.Get("X-API-Key") != *key {
			http.Error(w, "unknown key", http.StatusUnauthorized)
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"status":"healthy"}`))
	}))
	t.Cleanup(a.Close)
	return a
}

// listed says who may get values and credentials.
func (m *mount) listed(hosts ...string) {
	m.Helper()
	m.write("config", d("outbound_hosts", hosts))
}

// watchedRole is a role with keys, and one check.
func watchedRole(m *mount, a *application, check ...any) {
	m.Helper()
	m.listed("127.0.0.1")
	m.write("roles/default", d("rotation_period", "24h"))
	m.write("secrets/default/api", d("type", "api_key"))
	m.write("secrets/default/jwt", d("type", "jwt"))
	m.write("checks/default/health", d(append([]any{"url", a.URL + "/health", "timeout", 15}, check...)...))
}

// TestCheckPasses asks once after the rotation, with the new key.
func TestCheckPasses(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "headers", []string{"X-API-Key: {{api_key}}", "Authorization: Bearer {{jwt_token}}"}, "expected_body", "healthy")
	answer := m.write("rotate", nil)
	if answer["status"] != "completed" || a.asked.Load() != 1 {
		t.Errorf("the rotation answered %v after %d requests", answer, a.asked.Load())
	}
	m.eventually("the end of what follows", func() bool { return m.read("status", nil)["following"] == nil })
	if h := m.read("history/default", nil); h["chain_valid"] != true {
		t.Errorf("the history is %v", h)
	}
}

// TestCheckAfterRollsBack finds an application that does not take the new key.
func TestCheckAfterRollsBack(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "headers", "X-API-Key: {{api_key}}", "attempts", 1)
	before := m.read("creds", nil)
	old := before["api_key"].(string)
	a.accepts.Store(&old)
	m.fails(422, logical.UpdateOperation, "rotate", nil, "rolled back", "check/health", "status 401, expected 200 to 299", "previous values again")
	after := m.read("creds", nil)
	if after["api_key"] != before["api_key"] || after["jwt_secret"] != before["jwt_secret"] || after["version"] != before["version"].(int)+2 {
		t.Error("the values of before are not what is read")
	}
	if verify := m.read("verify", nil); verify["valid"] != true {
		t.Errorf("verify reports %v", verify)
	}
}

// TestCheckBefore keeps a rotation from beginning, unless it is urgent.
func TestCheckBefore(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "phase", "before", "attempts", 1)
	before := m.read("creds", nil)
	a.status.Store(http.StatusServiceUnavailable)
	m.fails(422, logical.UpdateOperation, "rotate", nil, "check health before the rotation", "status 503", "Nothing was changed")
	if after := m.read("creds", nil); after["version"] != before["version"] {
		t.Error("the version changed")
	}
	m.write("rotate", d("revoke_previous", true))
	m.write("checks/default/health", d("on_failure", "alert"))
	if answer := m.write("rotate", nil); answer["status"] != "completed" {
		t.Errorf("with on_failure=alert: %v", answer)
	}
	m.delete("checks/default/health")
	if names := m.list("checks/default"); len(names) != 0 {
		t.Errorf("the checks are %v", names)
	}
}

// TestDroppedTasks end before they are decided, which no record calls passed: a check
// that was deleted or cannot be made any more, and a destination that was taken away.
func TestDroppedTasks(t *testing.T) {
	for what, drop := range map[string]func(m *mount){
		"check deleted":     func(m *mount) { m.delete("checks/default/health") },
		"check unreadable":  func(m *mount) { m.damageCheck("health") },
		"destination taken": func(m *mount) { m.write("roles/default", d("destinations", "")) },
	} {
		t.Run(what, func(t *testing.T) {
			m, a := newMount(t), newApplication(t)
			a.status.Store(http.StatusInternalServerError)
			watchedRole(m, a, "interval", 10, "watch_period", 60, "attempts", 5)
			name := "check/health"
			if strings.HasPrefix(what, "destination") {
				name = "destination/hook"
				m.write("destinations/hook", d("type", "webhook", "url", a.URL, "key", "0123456789abcdef", "allowed_roles", "*", "verify", false, "values", "x={{api_key}}"))
				m.write("roles/default", d("destinations", "hook"))
			}
			id := fmt.Sprint(m.write("rotate", d("wait", 0))["rotation_id"])
			m.eventually("the first request", func() bool { return a.asked.Load() > 0 && m.task(name) != nil && m.task(name)["detail"] != "" })
			drop(m)
			m.tick(time.Minute)
			m.eventually("the end of the task", func() bool { task := m.task(name); return task == nil || task["done"] == true })
			if task := m.task(name); task != nil && task["dropped"] != true {
				t.Errorf("status has %v", task)
			}
			m.delete("checks/default/health")
			m.tick(time.Minute)
			m.eventually("the end of what follows", func() bool { m.tick(time.Second); return m.read("status", nil)["following"] == nil })
			text := fmt.Sprint(m.read("history/default/"+id, d("format", "markdown"))["markdown"])
			if !strings.Contains(text, name+": ➖ no result: ") || strings.Contains(text, "Integration testing: ✅") {
				t.Errorf("the record says:\n%s", text)
			}
		})
	}
}

// task is what status tells of something that follows.
func (m *mount) task(name string) map[string]any {
	m.Helper()
	following, _ := m.read("status", nil)["following"].(map[string]any)
	if following == nil {
		return nil
	}
	task, _ := following["tasks"].(map[string]any)[name].(map[string]any)
	return task
}

// damageCheck makes what is stored of a check of role default be none.
func (m *mount) damageCheck(name string) {
	m.Helper()
	r, err := m.b.registry.Get(m.Context(), roles.Prefix, defaultRole)
	if err == nil {
		err = r.SetCheck(m.Context(), &rotation.Record{Operation: rotation.Operation{Kind: rotation.KindConfigure}}, name, func(s *rotation.State) error {
			s.Checks[name] = json.RawMessage(`"damaged"`)
			return nil
		})
	}
	if err != nil {
		m.Fatal(err)
	}
}

// TestWhatFollowsFitsTheOverlap adds what a destination and a check may take, whichever
// of the two, or of the overlap, is written last.
func TestWhatFollowsFitsTheOverlap(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	m.listed("127.0.0.1")
	m.write("roles/default", d("rotation_period", "24h", "overlap", "1h"))
	m.write("secrets/default/api", d("type", "api_key"))
	hook := d("type", "webhook", "url", a.URL, "key", "0123456789abcdef", "allowed_roles", "*", "verify", false, "values", "x={{api_key}}")
	const update = logical.UpdateOperation
	for _, required := range []bool{true, false} {
		hook["required"], hook["deadline"] = required, "30m"
		m.write("destinations/hook", hook)
		before := m.newest("default", "publish")
		m.write("roles/default", d("destinations", "hook", "overlap", "1h"))
		m.recorded(before)
		check := func(watch string) map[string]any { return d("url", a.URL, "watch_period", watch) }
		m.refused(update, "checks/default/health", check("30m"), "watch_period", "health", "hook", "30m (deadline)", "kept for 1h only")
		m.write("checks/default/health", check("20m"))
		m.refused(update, "destinations/hook", d("verify", false, "deadline", "40m"), "deadline", "health", "hook", "40m (deadline)", "kept for 1h only")
		m.refused(update, "roles/default", d("overlap", "45m"), "overlap", "health", "hook", "kept for 45m only")
		m.write("roles/default", d("destinations", ""))
		m.write("destinations/hook", d("verify", false, "deadline", "40m"))
		m.refused(update, "roles/default", d("destinations", "hook"), "destinations", "health", "hook", "40m (deadline)")
		m.refused(update, "roles/default", d("overlap", "15m"), "overlap", "health", "kept for 15m only")
		if got := m.read("roles/default", nil); got["overlap"] != int64(3600) || len(m.read("destinations/hook", nil)["roles"].([]string)) != 0 {
			t.Errorf("what was refused changed the role: %v", got)
		}
		m.delete("checks/default/health")
	}
}

// TestWatch goes on asking, over a crash, until the application gets sick.
func TestWatch(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "interval", 10, "watch_period", 60, "attempts", 2)
	version := m.version("default")
	if answer := m.write("rotate", d("wait", 0)); answer["status"] != "in_progress" {
		t.Errorf("the rotation answered %v", answer)
	}
	found := func(so string) func() bool {
		return func() bool { return strings.Contains(fmt.Sprint(m.task("check/health")["detail"]), so+" requests") }
	}
	m.eventually("the first request", found("1 of 1"))
	m.boot()
	m.becomes("default", version+1)
	m.tick(10 * time.Second)
	m.eventually("the second request, of another process", found("2 of 2"))
	a.status.Store(http.StatusInternalServerError)
	m.tick(10 * time.Second)
	m.eventually("the third request", found("2 of 3"))
	m.becomes("default", version+1)
	m.tick(10 * time.Second)
	m.becomes("default", version+2)
	back := m.read("status", nil)["following"].(map[string]any)["tasks"].(map[string]any)["check/health"].(map[string]any)
	if back["required"] != false {
		t.Errorf("after the rollback there follows %v", back)
	}
}

// TestCheckAfterRollback asks after a rollback too, and only tells.
func TestCheckAfterRollback(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "attempts", 1)
	m.write("rotate", nil)
	a.status.Store(http.StatusInternalServerError)
	version := m.version("default")
	resp, err := m.try(logical.UpdateOperation, "rollback", nil)
	if err != nil || resp.IsError() || !strings.Contains(strings.Join(resp.Warnings, " "), "status 500") {
		t.Errorf("the rollback answered %v, %v", resp, err)
	}
	m.becomes("default", version+1)
}

// TestLatencyGate measures before and after.
func TestLatencyGate(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "samples", 20, "concurrency", 4, "percentile", 50, "max_latency_increase", 10000)
	if answer := m.write("rotate", d("wait", 30)); answer["status"] != "completed" || a.asked.Load() != 41 {
		t.Errorf("the rotation answered %v after %d requests", answer, a.asked.Load())
	}
	m.write("checks/default/health", d("max_latency_increase", 100, "attempts", 1))
	a.slowAfter(21)
	m.fails(422, logical.UpdateOperation, "rotate", d("wait", 30), "rolled back", "percentile 50 of the latency")
}

// slowAfter makes the application slow after so many more requests.
func (a *application) slowAfter(n int64) {
	next, end := a.Config.Handler, a.asked.Load()+n
	a.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.asked.Load() >= end {
			a.pause.Store(int64(200 * time.Millisecond))
		}
		next.ServeHTTP(w, r)
	})
}

// TestBadChecks are refused.
func TestBadChecks(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a)
	for _, c := range []struct {
		data  map[string]any
		words []string
	}{
		{d("url", "ftp://x"), []string{"url", "https://"}},
		{d("url", "https://u:p@x/"), []string{"url", "user name"}},
		{d("url", "https://x/{{api_key}}"), []string{"url", "placeholder"}},
		{d("url", "http://x/", "tls_ca", "x"), []string{"tls_ca"}},
		{d("method", "GET /"), []string{"method"}},
		{d("headers", "X-API-Key"), []string{"headers", "X-API-Key: {{api_key}}"}},
		{d("headers", "X: a\r\nY: b"), []string{"headers"}},
		{d("headers", "X: {{api_kye}}"), []string{"headers", "{{api_kye}}", "api_key"}},
		{d("body", "{{x}}"), []string{"body", "{{x}}"}},
		{d("phase", "during"), []string{"phase", "before, after or retire"}},
		{d("on_failure", "ignore"), []string{"on_failure", "rollback or alert"}},
		{d("expected_status", "20"), []string{"expected_status"}},
		{d("attempts", 0), []string{"attempts"}},
		{d("timeout", "2m"), []string{"timeout"}},
		{d("watch_period", "13h"), []string{"watch_period", "for 12h only"}},
		{d("phase", "before", "attempts", 10), []string{"attempts", "the limit is 1m"}},
		{d("phase", "before", "watch_period", 10), []string{"phase"}},
		{d("samples", 100_000), []string{"samples"}},
		{d("percentile", 101), []string{"percentile"}},
	} {
		m.refused(logical.UpdateOperation, "checks/default/health", c.data, c.words...)
	}
	m.refused(logical.UpdateOperation, "checks/default/new", nil, "url")
	m.refused(logical.UpdateOperation, "checks/nobody/new", d("url", a.URL), "role")
	m.write("checks/default/health", d("url", a.URL, "headers", []string{"X-Token: literal-secret-0123", "X-API-Key: literal-{{api_key}}"}, "body", "{\"a\": \"literal\", \"key\": \"{{api_key}}\"}"))
	shown := m.read("checks/default/health", nil)
	if text := fmt.Sprintf("%v %v", shown["headers_masked"], shown["body_masked"]); text != "[X-Token: … X-API-Key: …{{api_key}}] …{{api_key}}…" || strings.Contains(fmt.Sprint(shown), "literal") || shown["headers"] != nil || shown["body"] != nil {
		t.Errorf("reading a check shows %v", shown)
	}
	m.write("checks/default/health", d("headers", []string{"X-API-Key:{{api_key}}"}, "body", " {{api_key}}"))
	if shown := m.read("checks/default/health", nil); fmt.Sprintf("%v%v %v %v", shown["headers"], shown["body"], shown["headers_masked"], shown["body_masked"]) != "[X-API-Key:{{api_key}}] {{api_key}} <nil> <nil>" {
		t.Errorf("of what is no secret it shows %v", shown)
	}
}
