package backend

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/notify"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
)

// receiver is a webhook that keeps what it takes.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	status  int
	events  []notify.Event
	refused int
	key     string // what everything has to be signed with, if anything
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		body, _ := io.ReadAll(req.Body)
		var e notify.Event
		if err := json.Unmarshal(body, &e); err != nil {
			t.Errorf("%s is no event: %v", body, err)
		}
		if r.status != http.StatusOK {
			r.refused++
			w.WriteHeader(r.status)
			return
		}
		if r.key != "" {
			at, _, _ := strings.Cut(strings.TrimPrefix(req.Header.Get(outbound.SignatureHeader), "t="), ",")
			if want := outbound.Sign(r.key, parseUnix(t, at), body); req.Header.Get(outbound.SignatureHeader) != want {
				t.Errorf("the signature is %q", req.Header.Get(outbound.SignatureHeader))
			}
		}
		r.events = append(r.events, e)
	}))
	t.Cleanup(r.Close)
	return r
}

func parseUnix(t *testing.T, text string) time.Time {
	var n int64
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		t.Errorf("%q is no time: %v", text, err)
	}
	return time.Unix(n, 0)
}

// names are the events received, in order.
func (r *receiver) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := make([]string, 0, len(r.events))
	for _, e := range r.events {
		names = append(names, e.Event)
	}
	return names
}

// receives waits for exactly these events.
func (m *mount) receives(r *receiver, want ...string) {
	m.Helper()
	m.eventually("the events "+strings.Join(want, ", "), func() bool { return len(r.names()) >= len(want) })
	if got := r.names(); !slices.Equal(got, want) {
		m.Errorf("the events are %v, want %v", got, want)
	}
}

// noted waits until the stored cursor of alerts/hook in role r has a field, after which
// another process does not repeat what was delivered.
func (m *mount) noted(field string) {
	m.Helper()
	m.eventually("the cursor to have "+field, func() bool {
		return strings.Contains(m.storage.contents(m.T)["alert-cursor/hook/role/r"], `"`+field+`"`)
	})
}

// TestAlertsTellARotation follows a role through its life, over a sink that is
// down for a while, and a crash.
func TestAlertsTellARotation(t *testing.T) {
	m, a, r := newMount(t), newApplication(t), newReceiver(t)
	r.key = "webhook-key-0123456789"
	watchedRole(m, a, "attempts", 1)
	m.write("rotate", nil) // before the alert, and so not told
	m.clock.advance(time.Second)
	m.write("alerts/hook", d("type", "webhook", "url", r.URL+"/hook", "key", r.key))
	m.write("rotate", nil)
	m.receives(r, "rotation_started", "rotation_completed")

	a.status.Store(http.StatusInternalServerError)
	m.fails(422, logical.UpdateOperation, "rotate", nil, "rolled back")
	want := []string{"rotation_started", "rotation_completed", "rotation_started", "application_degraded", "rotation_rolled_back"}
	m.eventually("the rollback to be told", func() bool { return slices.Contains(r.names(), "rotation_rolled_back") })
	if got := r.names(); !slices.Equal(got[:5], want) {
		t.Errorf("the events are %v", got)
	}
	m.delete("checks/default/health")
	m.eventually("what follows the rollback", func() bool { return m.read("status", nil)["following"] == nil })

	r.set(http.StatusServiceUnavailable)
	m.write("rotate", nil)
	m.eventually("a delivery that is refused", func() bool { return r.refusals() > 0 })
	m.eventually("that this is said", func() bool { // the receiver has refused before the engine has heard it
		about := m.read("alerts/hook", nil)
		return about["waiting"] != 0 && strings.Contains(about["last_error"].(string), "503")
	})
	m.boot()
	m.tick(0)
	before := len(r.names())
	r.set(http.StatusOK)
	m.eventually("what was not delivered", func() bool { return slices.Contains(r.names()[before:], "rotation_completed") })
	r.onceEach(t)
}

func (r *receiver) set(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) refusals() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

// onceEach checks that what is repeated has the same id, and says what it is about.
func (r *receiver) onceEach(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]string{}
	for _, e := range r.events {
		about := e.RotationID + e.Event
		if id, ok := seen[about]; ok && id != e.ID {
			t.Errorf("%s has two ids", about)
		}
		if seen[about] = e.ID; e.Role != "default" || e.Mount != "smvm/" || e.ID == "" || e.Time.IsZero() || e.Severity == "" || e.Message == "" {
			t.Errorf("an event is %+v", e)
		}
	}
}

// TestAlertsOfTime tells what is due soon and what is overdue, once each.
func TestAlertsOfTime(t *testing.T) {
	m, r := newMount(t), newReceiver(t)
	m.write("roles/default", d("rotation_period", "720h"))
	m.write("secrets/default/pin", d("type", "random"))
	m.clock.advance(time.Second)
	m.write("alerts/hook", d("type", "webhook", "url", r.URL+"/hook", "events", "rotation_due_soon,rotation_completed"))
	m.tick(24 * 24 * time.Hour)
	m.tick(24 * time.Hour)
	m.receives(r, "rotation_due_soon")
	m.tick(time.Hour)
	m.tick(5 * 24 * time.Hour)
	m.receives(r, "rotation_due_soon", "rotation_completed")
}

// TestAlertKinds sends a test to each kind of sink, and none of them is shown
// what is secret.
func TestAlertKinds(t *testing.T) {
	m := newMount(t)
	m.listed("127.0.0.1")
	var mu sync.Mutex
	got := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(req.Body)
		got[req.URL.Path] = req.Header.Get("Authorization") + string(body)
	}))
	t.Cleanup(server.Close)
	m.write("alerts/chat", d("type", "slack", "url", server.URL+"/services/secret-token"))
	m.write("alerts/am", d("type", "alertmanager", "url", server.URL+"/", "authorization", "Bearer secret-bearer"))
	m.write("alerts/chat/test", nil)
	m.write("alerts/am/test", nil)
	mu.Lock()
	defer mu.Unlock()
	if text := got["/services/secret-token"]; !strings.Contains(text, `"text":`) || !strings.Contains(text, "This is a test of alerts/chat") {
		t.Errorf("the chat got %s", text)
	}
	if text := got["/api/v2/alerts"]; !strings.HasPrefix(text, "Bearer secret-bearer[{") || !strings.Contains(text, `"alertname":"test"`) {
		t.Errorf("the Alertmanager got %s", text)
	}
	if shown := m.read("alerts/chat", nil); shown["url"] != nil || shown["url_masked"] != server.URL+"/…" || shown["authorization"] != nil {
		t.Errorf("of the chat it shows %v", shown)
	}
	if shown := m.read("alerts/am", nil); shown["url"] != server.URL+"/" || shown["url_masked"] != nil {
		t.Errorf("of the Alertmanager it shows %v", shown)
	}
	if names := m.list("alerts"); len(names) != 2 {
		t.Errorf("the alerts are %v", names)
	}
	m.delete("alerts/chat")
	m.delete("alerts/am")
	if keys := m.storage.contents(t); strings.Contains(strings.Join(keysOf(keys), " "), "alert") {
		t.Error("the deleted alerts left something")
	}
}

func keysOf[V any](values map[string]V) []string {
	var keys []string
	for key := range values {
		keys = append(keys, key)
	}
	return keys
}

// TestBadAlerts are refused.
func TestBadAlerts(t *testing.T) {
	m := newMount(t)
	for _, c := range []struct {
		data  map[string]any
		words []string
	}{
		{d("url", "https://x/"), []string{"type", "webhook, slack or alertmanager"}},
		{d("type", "webhook"), []string{"url", "https://"}},
		{d("type", "webhook", "url", "https://u:p@x/"), []string{"url", "user name"}},
		{d("type", "webhook", "url", "https://x/", "events", "rotation_strated"), []string{"events", "rotation_started"}},
		{d("type", "slack", "url", "https://x/", "key", "k"), []string{"key"}},
		{d("type", "webhook", "url", "https://x/", "notice", "9000h"), []string{"notice"}},
		{d("type", "webhook", "url", "https://x/", "tls_ca", "x"), []string{"tls_ca", "PEM"}},
	} {
		m.refused(logical.UpdateOperation, "alerts/new", c.data, c.words...)
	}
	m.refused(logical.UpdateOperation, "alerts/none/test", nil, "alerts/none")
	m.write("alerts/dead", d("type", "webhook", "url", "http://127.0.0.1:1/"))
	m.refused(logical.UpdateOperation, "alerts/dead/test", nil, "did not accept the test event", "connection refused")
}
