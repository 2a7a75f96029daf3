package backend

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/hashicorp/vault/sdk/logical"
)

// verifier is an application that verifies keys and tokens by what it has read. One that
// hoards never forgets what it has read before; one that forgets does so when it has
// accepted something.
type verifier struct {
	*httptest.Server
	mu      sync.Mutex
	hoards  bool
	forgets bool
	keys    map[any]bool
	secrets map[any]any // by kid
	// status is answered before anything is verified, if it is not zero.
	status int
	// asked are the statuses of requests with a key or a token, in order.
	asked []int
}

func newVerifier(t *testing.T) *verifier {
	v := &verifier{keys: map[any]bool{}, secrets: map[any]any{}}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		defer v.mu.Unlock()
		key, token := r.Header.Get("X-API-Key"), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		status := v.status
		if status == 0 {
			status = http.StatusOK
			if key == "" && token == "" || key != "" && !v.keys[key] || token != "" && !v.verifies(token) {
				status = http.StatusUnauthorized
			}
		}
		if key != "" || token != "" {
			v.asked = append(v.asked, status)
		}
		if v.forgets && status == http.StatusOK {
			v.keys, v.secrets = map[any]bool{}, map[any]any{}
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(v.Close)
	return v
}

func (v *verifier) verifies(token string) bool {
	_, err := jwt.Parse(token, func(t *jwt.Token) (any, error) {
		if secret, ok := v.secrets[t.Header["kid"]].(string); ok {
			return []byte(secret), nil
		}
		return nil, errors.New("unknown key")
	}, jwt.WithValidMethods([]string{"HS256"}), jwt.WithoutClaimsValidation()) // the engine's clock stands still
	return err == nil
}

// reads is what the application does every refresh_interval.
func (v *verifier) reads(creds map[string]any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.hoards {
		v.keys, v.secrets = map[any]bool{}, map[any]any{}
	}
	for _, stage := range []string{"", "previous_"} {
		if key := creds["api_"+stage+"key"]; key != nil {
			v.keys[key], v.secrets[creds["jwt_"+stage+"kid"]] = true, creds["jwt_"+stage+"secret"]
		}
	}
}

func (v *verifier) answer(status int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status = status
}

func (v *verifier) answers() []int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.asked)
}

// refusing is role default with keys that the application verifies, which is asked to
// refuse the previous ones: each by itself, and a token beside a current key.
func refusing(m *mount, v *verifier) {
	m.Helper()
	m.listed("127.0.0.1")
	m.write("roles/default", d("rotation_period", "24h", "overlap", "1h", "refresh_interval", "5m"))
	m.write("secrets/default/api", d("type", "api_key"))
	m.write("secrets/default/jwt", d("type", "jwt"))
	m.write("checks/default/key", d("phase", "retire", "url", v.URL, "headers", "X-API-Key: {{api_previous_key}}", "attempts", 1, "timeout", 30))
	m.write("checks/default/token", d("phase", "retire", "url", v.URL, "headers", "Authorization: Bearer {{jwt_previous_token}}", "attempts", 1, "timeout", 30))
	m.write("checks/default/both", d("phase", "retire", "url", v.URL, "headers", []string{"X-API-Key: {{api_key}}", "Authorization: Bearer {{jwt_previous_token}}"}, "attempts", 1, "timeout", 30))
	v.reads(m.read("creds", nil))
}

// overlapEnds rotates, and lets the application read until the overlap is over, and the
// engine waits only for it to hear of that. It returns the id of the rotation.
func overlapEnds(m *mount, v *verifier) string {
	m.Helper()
	id := m.write("rotate", nil)["rotation_id"].(string)
	v.reads(m.read("creds", nil))
	m.tick(time.Hour)
	m.eventually("the wait for readers", func() bool { return m.destroyed("api") != nil })
	return id
}

// destroyed is when the previous value of a secret is to be destroyed, nil if no wait for
// that has begun.
func (m *mount) destroyed(name string) any {
	m.Helper()
	stages := m.read("status", nil)["secrets"].(map[string]any)[name].(map[string]any)
	previous, _ := stages["previous"].(map[string]any)
	return previous["destroy_time"]
}

// retired lets the wait pass, and the retirement end.
func (m *mount) retired() {
	m.Helper()
	m.tick(5 * time.Minute)
	m.eventually("the retirement", func() bool { return m.stored("default").Secrets["api"].Previous == nil })
}

// TestRefusedRetiredValues has a sound application refuse what it was not given any more,
// which is asked when it had the time to hear of that, and after a crash too.
func TestRefusedRetiredValues(t *testing.T) {
	m, v := newMount(t), newVerifier(t)
	refusing(m, v)
	if report := m.write("rotate", d("dry_run", true)); !strings.Contains(fmt.Sprint(report["plan"]), "ask "+v.URL+", 5m later, whether it refuses previous values, by check key") {
		t.Errorf("a dry run plans %v", report["plan"])
	}
	id := overlapEnds(m, v)
	if creds := m.read("creds", nil); creds["api_previous_key"] != nil || len(v.answers()) != 0 {
		t.Errorf("at the end of the overlap readers get %v; the application was asked %v", creds["api_previous_key"] != nil, v.answers())
	}
	if answer := m.write("api-key/default/api/verify", d("key", m.stored("default").Secrets["api"].Previous.Material["key"])); answer["valid"] != false {
		t.Error("the engine verifies a key after its overlap")
	}
	m.tells(m.told("default", id), "- Security testing: ⏳ overlap not over yet", "  - api: version 1, old secret invalidated: not shown yet: its overlap has ended, and the engine asks the application at 2026-03-01T13:05:00Z")
	m.boot()
	m.tick(4 * time.Minute)
	v.reads(m.read("creds", nil))
	if m.tick(30 * time.Second); len(v.answers()) != 0 || m.newest("default", "retire") != "" {
		t.Error("the application is asked before it had the time to read")
	}
	m.retired()
	if answers := v.answers(); len(answers) != 3 || slices.Max(answers) != http.StatusUnauthorized || slices.Min(answers) != http.StatusUnauthorized {
		t.Errorf("the application answered %v", answers)
	}
	m.tells(m.told("default", id), "- Security testing: ✅ passed",
		"  - api: version 1, old secret invalidated: refused by the engine's verify; refused by the application (check key, status 401)",
		"  - jwt: version 2, old secret invalidated: refused by the engine's verify; refused by the application (check both, status 401); refused by the application (check token, status 401)")
	status := m.read("status", nil)
	if answers := fmt.Sprint(status["refusals"]); strings.Count(answers, "outcome:refused") != 3 || status["advice"] != "" || m.stored("default").Secrets["api"].Previous != nil {
		t.Errorf("status has %v, advice %v", answers, status["advice"])
	}
}

// TestAcceptedRetiredValues catches an application that never forgets: the values die all
// the same, and the record, an event, status and its advice say so.
func TestAcceptedRetiredValues(t *testing.T) {
	m, v, r := newMount(t), newVerifier(t), newReceiver(t)
	v.hoards = true
	refusing(m, v)
	m.write("alerts/hook", d("type", "webhook", "url", r.URL, "key", "webhook-key-0123456789", "events", "retired_value_accepted,application_degraded"))
	id := overlapEnds(m, v)
	v.reads(m.read("creds", nil))
	m.retired()
	m.tells(m.told("default", id), "- Security testing: ❌ failed",
		"  - api: version 1, old secret invalidated: refused by the engine's verify; ACCEPTED by the application (check key, status 200)",
		"issue: secret api: version 1 is destroyed, but an application accepts it: check/key: status 200")
	m.receives(r, "retired_value_accepted", "retired_value_accepted", "retired_value_accepted")
	if e := r.events[1]; e.Severity != "critical" || e.Message != "The application accepts the retired value of api: check/key: status 200" || e.RotationID != m.newest("default", "retire") {
		t.Errorf("the event is %+v", e)
	}
	status := m.read("status", nil)
	if advice := fmt.Sprint(status["advice"]); !strings.Contains(advice, "an application accepted a retired value: secret jwt (check/both: status 200, at ") || !strings.Contains(fmt.Sprint(status["report"]), "retired value of api: accepted, by check/key: status 200") {
		t.Errorf("status advises %q", advice)
	}
	if m.stored("default").Secrets["api"].Previous != nil {
		t.Error("the engine keeps the value that the application accepts")
	}
	m.write("rotate", d("secrets", "api"))
	if answers := fmt.Sprint(m.read("status", nil)["refusals"]); strings.Contains(answers, "check/key") || !strings.Contains(answers, "check/token") {
		t.Errorf("after the next rotation of the key, status has %s", answers)
	}
}

// TestRefusalWithinAttempts has an application that refuses a little late.
func TestRefusalWithinAttempts(t *testing.T) {
	m, v := newMount(t), newVerifier(t)
	v.forgets = true
	refusing(m, v)
	for _, other := range []string{"token", "both"} {
		m.delete("checks/default/" + other)
	}
	m.write("checks/default/key", d("attempts", 4, "interval", 1, "timeout", 6))
	m.refused(logical.UpdateOperation, "checks/default/key", d("attempts", 40), "attempts", "may take 4m39s", "the limit is 30s")
	m.refused(logical.UpdateOperation, "checks/default/key", d("expected_status", "401,204"), "expected_status", "says that the application accepts the value")
	id := overlapEnds(m, v)
	m.retired()
	m.tells(m.told("default", id), "refused by the application (check key, status 401, after status 200)")
	if answers := v.answers(); answers[0] != http.StatusOK || answers[len(answers)-1] != http.StatusUnauthorized {
		t.Errorf("the application answered %v", answers)
	}
}

// TestOneRefusalAfterAnAcceptance has two instances behind one address, of which one goes on
// to accept the value: that the other refuses it last does not show that it is dead.
func TestOneRefusalAfterAnAcceptance(t *testing.T) {
	m, v := newMount(t), newVerifier(t)
	v.forgets = true
	refusing(m, v)
	for _, other := range []string{"token", "both"} {
		m.delete("checks/default/" + other)
	}
	m.write("checks/default/key", d("attempts", 2, "interval", 1, "timeout", 10))
	id := overlapEnds(m, v)
	m.retired()
	m.tells(m.told("default", id), "ACCEPTED by the application (check key, status 200)")
	if answers := v.answers(); !slices.Equal(answers, []int{http.StatusOK, http.StatusUnauthorized}) {
		t.Errorf("the application answered %v", answers)
	}
}

// TestNothingIsShown has an application that does not answer, or neither yes nor no: no
// record says that it refuses, and the values die all the same.
func TestNothingIsShown(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*verifier)
		detail  string
	}{
		"unreachable": {func(v *verifier) { v.Close() }, "connection refused"},
		"sick":        {func(v *verifier) { v.answer(http.StatusServiceUnavailable) }, "status 503, expected 401 or 403"},
	} {
		t.Run(name, func(t *testing.T) {
			m, v, r := newMount(t), newVerifier(t), newReceiver(t)
			refusing(m, v)
			m.delete("checks/default/both")
			m.delete("checks/default/token")
			m.write("alerts/hook", d("type", "webhook", "url", r.URL, "key", "webhook-key-0123456789", "events", "retired_value_accepted,application_degraded"))
			id := overlapEnds(m, v)
			c.happens(v)
			m.retired()
			m.tells(m.told("default", id), "- Security testing: ⚠️ not proven", "refused by the engine's verify; not shown for the application (check key, ", c.detail,
				"  - jwt: version 2, old secret invalidated: refused by the engine's verify; not shown for the application: no check with phase=retire asked it")
			m.receives(r, "application_degraded")
			if status := m.read("status", nil); status["advice"] != "" || !strings.Contains(fmt.Sprint(status["refusals"]), "not_shown") {
				t.Errorf("status has %v", status["refusals"])
			}
		})
	}
}

// TestRevokedValuesAreAskedAbout has nobody given a revoked value any more, and asks when
// the application has had the time to read, as at the end of an overlap.
func TestRevokedValuesAreAskedAbout(t *testing.T) {
	m, v := newMount(t), newVerifier(t)
	refusing(m, v)
	id := m.write("rotate", d("revoke_previous", true))["rotation_id"].(string)
	creds := m.read("creds", nil)
	if _, offered := creds["api_previous_key"]; offered || len(v.answers()) != 0 {
		t.Errorf("right after the rotation, creds offers the revoked key: %v; the application was asked: %v", offered, v.answers())
	}
	v.reads(creds)
	m.retired()
	m.tells(m.told("default", id), "refused by the application (check key, status 401)")
}

// TestHeldValuesAreRetired presents values that the engine still has only to ask applications
// to refuse them: they are recognized as retired at once, however their overlap ended, and
// there is nothing to replace.
func TestHeldValuesAreRetired(t *testing.T) {
	for name, end := range map[string]func(m *mount, v *verifier){
		"revoked": func(m *mount, _ *verifier) { m.write("rotate", d("revoke_previous", true)) },
		"ended":   func(m *mount, v *verifier) { overlapEnds(m, v) },
		"by hand": func(m *mount, _ *verifier) {
			m.write("rotate", nil)
			m.write("retire", d("force", true))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, v, r := newMount(t), newVerifier(t), newReceiver(t)
			refusing(m, v)
			m.write("alerts/hook", d("type", "webhook", "url", r.URL, "events", "retired_value_used"))
			key := m.read("creds", nil)["api_key"].(string)
			token := m.write("jwt/default/jwt/sign", d("claims", d("sub", "orders")))["token"].(string)
			end(m, v)
			version := m.read("status", nil)["version"]
			for range 2 {
				if reason := m.presents("api-key/default/api/verify", "key", key); reason != "retired" {
					t.Errorf("the reason of the key is %q", reason)
				}
				if reason := m.presents("jwt/default/jwt/verify", "token", token); reason != "retired" {
					t.Errorf("the reason of the token is %q", reason)
				}
			}
			m.receives(r, "retired_value_used", "retired_value_used")
			answer := m.write("leaked", d("value", key, "respond", true))
			if got := m.stagesOf(key); got != "default/api retired" || len(answer["operations"].([]map[string]any)) != 0 || m.read("status", nil)["version"] != version {
				t.Errorf("the key is %q, and the response was %v", got, answer["operations"])
			}
			m.boot()
			m.clock.advance(-time.Minute) // as on another node
			if creds := m.read("creds", nil); creds["api_previous_key"] != nil {
				t.Error("after the clock went back, readers get the key again")
			}
			if reason := m.presents("api-key/default/api/verify", "key", key); reason != "retired" {
				t.Errorf("after the clock went back, the reason of the key is %q", reason)
			}
			m.refused(logical.UpdateOperation, "rollback", nil, "", "previous value to go back to")
			m.clock.advance(time.Minute)
			m.retired()
			if got := m.stagesOf(key); got != "default/api retired" {
				t.Errorf("when it is destroyed, the key is %q", got)
			}
			m.presents("api-key/default/api/verify", "key", key)
			m.tick(time.Minute)
			if len(r.ids()) != 2 {
				t.Errorf("the events are %v", r.names())
			}
			m.keepsNone(key)
		})
	}
}

// TestAskedTogetherOnly does not take a refusal for a proof that may be about another
// value: a check with two of them asks only if both are retired.
func TestAskedTogetherOnly(t *testing.T) {
	m, v := newMount(t), newVerifier(t)
	refusing(m, v)
	for _, other := range []string{"token", "both"} {
		m.delete("checks/default/" + other)
	}
	m.write("checks/default/key", d("headers", []string{"X-API-Key: {{api_previous_key}}", "Authorization: Bearer {{jwt_previous_token}}"}))
	m.write("rotate", d("secrets", "api"))
	m.tick(time.Hour)
	m.eventually("the wait for readers", func() bool { return m.destroyed("api") != nil })
	m.retired()
	m.tells(m.told("default", m.newest("default", "rotate")), "not shown for the application (check key, not asked, because it also sends the previous value of jwt, which is not retired at the same time)")
	if answers := v.answers(); len(answers) != 0 {
		t.Errorf("the application answered %v", answers)
	}
}

// TestBadRetireChecks are refused, each with its field and the fix.
func TestBadRetireChecks(t *testing.T) {
	m, v := newMount(t), newVerifier(t)
	refusing(m, v)
	const update = logical.UpdateOperation
	m.refused(update, "checks/default/new", d("url", v.URL, "headers", "X-API-Key: {{api_previous_key}}"), "headers", "{{api_previous_key}}", "Write phase=retire", "{{api_key}}")
	m.refused(update, "checks/default/new", d("url", v.URL, "method", "POST", "phase", "before", "body", "{{jwt_previous_token}}"), "body", "phase=retire", "{{jwt_token}}")
	m.refused(update, "checks/default/key", d("phase", "after"), "headers", "{{api_previous_key}}")
	m.refused(update, "checks/default/new", d("url", v.URL, "phase", "retire", "headers", "X-API-Key: {{api_key}}"), "headers", "{{api_previous_key}}, {{jwt_previous_token}}")
	m.refused(update, "checks/default/key", d("headers", "X-API-Key: {{db_previous_key}}"), "headers", "{{db_previous_key}} is not known", "api_previous_key")
	m.refused(update, "checks/default/key", d("on_failure", "rollback"), "on_failure", "must be alert")
	for field, value := range map[string]any{
		"delay": "5m", "watch_period": "5m", "samples": 10, "success_threshold": 90, "concurrency": 2, "percentile": 50, "max_latency_increase": 10,
	} {
		m.refused(update, "checks/default/key", d(field, value), field, "no effect with phase=retire", "write "+field+"=")
	}
	m.write("secrets/default/once", d("type", "api_key", "hash_only", true))
	m.refused(update, "checks/default/key", d("headers", "X-API-Key: {{once_previous_key}}"), "headers", "{{once_previous_key}}")
	if shown := m.read("checks/default/key", nil); shown["phase"] != "retire" || shown["on_failure"] != "alert" {
		t.Errorf("reading the check shows %v", shown)
	}
}
