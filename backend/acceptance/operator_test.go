package acceptance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// receiver keeps all that is sent to it.
type receiver struct {
	url string
	mu  sync.Mutex
	got strings.Builder
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		dump, err := httputil.DumpRequest(req, true)
		if err != nil {
			dump = []byte(err.Error())
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got.Write(dump)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *receiver) all() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got.String()
}

// spy is an operator who wants values: with the operator's token, a receiver of their
// own, and everything that the shipped policy and the engine allow.
type spy struct {
	*engine
	operator    *raw
	own, listed *receiver
	// values are all that readers were given, and credentials that are stored.
	values map[string]bool
	tried  map[string]bool
	// answers are looked at when all values are known.
	answers []struct{ to, text string }
}

// credential is what the administrator of the mount has stored.
const credential = "stored-credential-0123456789"

// placeholders are the values of the role default, as checks and destinations name them.
var placeholders = []string{"{{db_password}}", "{{db_connection_string}}", "{{jwt_secret}}", "{{jwt_token}}", "{{api_key}}", "{{pin_value}}"}

// TestOperatorReadsNoValue has an operator try every operation that the engine has,
// with every field that it takes, to see a value or to have one sent to a receiver of
// their own. None comes, and the same ways work for whom the administrator has listed.
func TestOperatorReadsNoValue(t *testing.T) {
	t.Parallel()
	s := newSpy(t)
	s.sees()
	s.lures()
	s.follows()
	endpoints := s.endpoints()
	for _, deletes := range []bool{false, true} {
		for _, at := range endpoints {
			if (at.method == http.MethodDelete) == deletes {
				s.attempt(at)
			}
		}
	}
	for _, answer := range s.answers {
		s.silent("in the answer of "+answer.to, answer.text)
	}
	for _, at := range endpoints {
		if !s.tried[at.method+" "+at.path] {
			t.Errorf("%s %s was not tried", at.method, at.path)
		}
	}
	s.silent("at the receiver", s.own.all())
	if !strings.Contains(s.own.all(), "GET /free") {
		t.Error("the operator's receiver got nothing at all: it proves nothing")
	}
	if !strings.Contains(s.listed.all(), credential) || !slices.ContainsFunc(s.sorted(), func(v string) bool { return strings.Contains(s.listed.all(), v) }) {
		t.Error("the listed receiver got no value and no credential: the test proves nothing")
	}
}

// newSpy makes what an administrator leaves to an operator: a role, and a check, an
// alert and a destination which get values and credentials where they are meant to.
func newSpy(t *testing.T) *spy {
	t.Helper()
	e := newEngine(t)
	remember(credential)
	s := &spy{engine: e, operator: e.raw(), own: newReceiver(t), listed: newReceiver(t), values: map[string]bool{credential: true}, tried: map[string]bool{}}
	e.write("config", map[string]any{"outbound_hosts": strings.TrimPrefix(s.listed.url, "http://")})
	e.orders("alternating_users", map[string]any{"rotation_period": "24h", "overlap": "6h", "refresh_interval": "1h"})
	e.write("secrets/default/pin", map[string]any{"type": "random"})
	e.write("roles/victim", map[string]any{"rotation_period": "24h"})
	e.write("secrets/victim/pin", map[string]any{"type": "random"})
	e.write("checks/default/meant", map[string]any{"url": s.listed.url, "headers": []string{"X-Key: {{api_key}}", "Authorization: " + credential}, "on_failure": "alert"})
	e.write("alerts/meant", map[string]any{"type": "webhook", "url": s.listed.url, "authorization": credential})
	e.write("destinations/meant", map[string]any{"type": "webhook", "url": s.listed.url, "key": credential, "values": "pin={{pin_value}}", "allowed_roles": "victim"})
	policy := strings.ReplaceAll(e.policy(operator), "smvm/", e.path+"/")
	own := operator + "-" + e.path // others write the policy for their mounts
	if err := e.vault.Client.Sys().PutPolicyWithContext(t.Context(), "smvm-"+own, policy); err != nil {
		t.Fatal(err)
	}
	s.operator.token = e.token(own)
	remember(s.operator.token)
	return s
}

// sees keeps what readers are given now.
func (s *spy) sees() {
	s.Helper()
	for _, path := range []string{"creds/default", "creds/default?stage=previous", "creds/victim"} {
		root := s.raw().do(http.MethodGet, path, nil)
		for field, value := range root.data() {
			for _, secret := range []string{"password", "connection_string", "jwt_secret", "previous_secret", "_key", "_value"} {
				if text, ok := value.(string); ok && strings.HasSuffix(field, secret) && len(text) > 8 {
					s.values[text] = true
				}
			}
		}
	}
}

func (s *spy) sorted() []string {
	var values []string
	for value := range s.values {
		values = append(values, value)
	}
	slices.Sort(values)
	return values
}

// silent fails the test if a text holds a value.
func (s *spy) silent(where, text string) {
	s.Helper()
	for value := range s.values {
		if strings.Contains(text, value) {
			s.Errorf("%s is a value, or a stored credential", where)
		}
	}
}

// send makes a request of the operator, and keeps what readers are given after it.
func (s *spy) send(method, path string, data map[string]any) reply {
	s.Helper()
	if method == list {
		method, path = http.MethodGet, path+"?list=true"
	}
	answer := s.operator.do(method, path, data)
	s.answers = append(s.answers, struct{ to, text string }{fmt.Sprintf("%s %s with %v", method, path, data), string(answer.body)})
	if method == http.MethodPost && answer.status < http.StatusMultipleChoices && !strings.HasPrefix(path, "checks/") && !strings.HasPrefix(path, "alerts/") {
		s.sees()
	}
	return answer
}

// attempt tries one operation for every role and name, with nothing, and with each of
// its fields leading to the operator's receiver or asking for a value.
func (s *spy) attempt(at endpoint) {
	s.tried[at.method+" "+at.path] = true
	for _, path := range s.paths(at.path) {
		if at.method != http.MethodPost {
			s.send(at.method, path, nil)
			for _, query := range at.query {
				s.send(at.method, path+"?"+query+"=previous", nil)
			}
			continue
		}
		s.send(at.method, path, map[string]any{})
		for _, field := range at.fields {
			bait := s.bait()
			if slices.Contains(secretFields, field) { // the operator's own, and nobody else may see it
				bait = []any{fmt.Sprintf("of-the-operator-%d", len(s.answers))}
			}
			for _, value := range bait {
				s.send(at.method, path, s.with(path, field, value))
			}
		}
	}
}

// paths are a path with names in place of its parameters: of what is stored, and of what
// is not yet.
func (s *spy) paths(template string) []string {
	stored := "meant"
	switch {
	case strings.HasPrefix(template, "connections/"):
		stored = "main"
	case strings.HasPrefix(template, "secrets/"):
		stored = "db"
	}
	found := []string{template}
	for parameter, names := range map[string][]string{
		"{role}": {"default", "victim"}, "{name}": {stored, "mine"}, "{secret}": {"jwt", "api"}, "{id}": {"x"},
	} {
		var next []string
		for _, path := range found {
			if !strings.Contains(path, parameter) {
				next = append(next, path)
				continue
			}
			for _, name := range names {
				next = append(next, strings.ReplaceAll(path, parameter, name))
			}
		}
		found = next
	}
	return found
}

// bait are values of a field which would have something sent, or shown.
func (s *spy) bait() []any {
	address := strings.TrimPrefix(s.own.url, "http://")
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		s.Fatal(err)
	}
	return []any{s.own.url + "/" + placeholders[0], s.own.url, host, port, address, placeholders[0], []string{"X-Leak: " + strings.Join(placeholders, " ")}, "meant", true}
}

// with is a request that the engine might take, with one field as the operator wants.
func (s *spy) with(path, field string, value any) map[string]any {
	data := map[string]any{}
	switch {
	case strings.HasPrefix(path, "checks/"):
		data = map[string]any{"url": s.own.url + "/free", "on_failure": "alert"}
	case strings.HasPrefix(path, "alerts/"):
		data = map[string]any{"type": "webhook", "url": s.own.url + "/free"}
	case strings.HasPrefix(path, "secrets/"):
		data = map[string]any{"type": "random"}
	case strings.HasPrefix(path, "destinations/"):
		data = map[string]any{"type": "webhook", "url": s.own.url}
	}
	data[field] = value
	return data
}

// lures are the ways that someone would try who has read the documentation.
func (s *spy) lures() {
	s.Helper()
	for i, placeholder := range placeholders {
		name := fmt.Sprintf("checks/default/lure%d", i)
		s.send(http.MethodPost, name, map[string]any{"url": s.own.url, "headers": []string{"X-Leak: " + placeholder}, "on_failure": "alert"})
		s.send(http.MethodPost, name, map[string]any{"url": s.own.url, "method": "POST", "body": placeholder, "on_failure": "alert"})
	}
	// What is stored follows no changed way, whatever is given along with it.
	for _, way := range []map[string]any{
		{"url": s.own.url},
		{"url": s.own.url, "headers": []string{"X-Key: {{api_key}}"}},
		{"url": s.own.url + "#" + s.listed.url},
		{"url": strings.Replace(s.listed.url, "http://", "http://user@", 1)},
		{"method": "POST", "body": "{{db_password}}", "url": s.own.url},
	} {
		s.send(http.MethodPost, "checks/default/meant", way)
		s.send(http.MethodPost, "alerts/meant", way)
	}
	// A destination that was meant for another role.
	s.send(http.MethodPost, "roles/default", map[string]any{"destinations": "meant"})
	// Errors of statements, and of everything that is told of a run.
	for _, statement := range []string{
		"SELECT current_setting('is_superuser')::int", "DO $$BEGIN RAISE EXCEPTION '%', (SELECT passwd FROM pg_shadow LIMIT 1); END$$",
		"SELECT '{{password}}'::int", "SELECT 1 {{password}}",
	} {
		s.send(http.MethodPost, "secrets/default/db", map[string]any{"verification_statements": []string{statement}})
		s.send(http.MethodPost, "rotate/default", map[string]any{"wait": 30, "reason": "{{db_password}}"})
	}
	s.send(http.MethodPost, "secrets/default/db", map[string]any{"rotation_statements": []string{"SELECT pg_catalog.pg_notify('x', {{password}})"}})
	s.send(http.MethodPost, "secrets/default/db", map[string]any{"verification_statements": []string{"SELECT 1"}})
	s.send(http.MethodPost, "checks/default/free", map[string]any{"url": s.own.url + "/free", "on_failure": "alert"})
	s.send(http.MethodPost, "rotate/default", map[string]any{"wait": 60})
	s.send(http.MethodPost, "alerts/meant/test", map[string]any{})
	s.send(http.MethodPost, "alerts/mine/test", map[string]any{})
	s.send(http.MethodPost, "rollback/default", map[string]any{"wait": 60})
}

// follows waits until what checks and alerts have to send was sent, and reads all
// that is told of it.
func (s *spy) follows() {
	s.Helper()
	s.eventually("the checks and alerts", 30*time.Second, func(context.Context) error {
		if !strings.Contains(s.own.all(), "GET /free") || !strings.Contains(s.listed.all(), "X-Key") {
			return fmt.Errorf("not all was sent")
		}
		return nil
	})
	for _, path := range []string{"status/default", "history/default", "history/default?format=jsonl", "verify/default", "metrics", "connections/main", "secrets/default/db", "checks/default/meant", "alerts/meant", "destinations/meant"} {
		s.send(http.MethodGet, path, nil)
	}
	ids := s.operator.do(http.MethodGet, "history/default?list=true", nil).data()["keys"]
	for _, id := range ids.([]any) {
		s.send(http.MethodGet, fmt.Sprintf("history/default/%v", id), nil)
		s.send(http.MethodGet, fmt.Sprintf("history/default/%v?format=markdown", id), nil)
	}
}
