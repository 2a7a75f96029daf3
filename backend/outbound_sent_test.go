package backend

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/publish"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/settings"
)

// TestRuleOfNow takes somebody from the list who was on it: nothing is sent any more,
// a rotation that depends on it does not begin, and all goes on when it is back.
func TestRuleOfNow(t *testing.T) {
	m, here, told := newMount(t), newParty(t, trusted), newParty(t, trusted)
	m.listed(trusted)
	keyedRole(m)
	m.write("checks/default/c", d("url", here.URL+"/check", "headers", "X-API-Key: {{api_key}}", "attempts", 1))
	m.write("alerts/a", d("type", "webhook", "url", told.URL+"/hook", "key", "signing-key-0123456789", "events", "rotation_completed,application_degraded"))
	m.write("rotate", nil)
	m.eventually("the alert", func() bool { return len(told.received()) == 1 })
	asked := len(here.received())

	m.listed("127.0.0.9")
	m.fails(422, logical.UpdateOperation, "rotate", nil, "check c before the rotation", "outbound_hosts does not name it", "Nothing was changed")
	m.warns(logical.ReadOperation, "checks/default/c", nil, "the engine sends nothing there")
	m.refused(logical.UpdateOperation, "alerts/a/test", nil, "did not accept the test event", "outbound_hosts does not name it")
	if report := m.read("verify", nil); !strings.Contains(fmt.Sprint(report["findings"]), "outbound_hosts does not name it") {
		t.Errorf("verify reports %v", report["findings"])
	}
	m.write("rotate", d("revoke_previous", true))
	m.eventually("the alert that is not sent", func() bool {
		return strings.Contains(fmt.Sprint(m.read("alerts/a", nil)["last_error"]), "outbound_hosts does not name it")
	})
	if len(here.received()) != asked || len(told.received()) != 1 {
		t.Errorf("it got %q, and %q", here.received()[asked:], told.received()[1:])
	}
	m.listed(trusted)
	if answer := m.write("rotate", nil); answer["status"] != "completed" {
		t.Errorf("back on the list: %v", answer)
	}
	m.eventually("the alert that waited", func() bool { return len(told.received()) > 1 })
}

// TestPublishedByTheRuleOfNow does the same with a destination.
func TestPublishedByTheRuleOfNow(t *testing.T) {
	m := newMount(t)
	sm := publishedRole(m, "required", true)
	m.listed("127.0.0.9")
	m.fails(422, logical.UpdateOperation, "rotate", nil, "destination aws before the rotation", "outbound_hosts does not name it", "Nothing was changed")
	m.listed(trusted)
	m.write("destinations/aws", d("required", false))
	m.published("aws", publish.InSync)
	before := sm.Value(copiedName)
	m.listed("127.0.0.9")
	m.write("rotate", nil)
	if about := m.published("aws", publish.Failed); !strings.Contains(fmt.Sprint(about["last_error"]), "outbound_hosts does not name it") || sm.Value(copiedName) != before {
		t.Errorf("of the destination it is said %v", about)
	}
	m.listed(trusted)
	m.published("aws", publish.InSync)
	m.same(sm)
}

// TestStoredByEarlierVersions goes on with what a version stored that had no rule,
// until there is one, says so, and lets nobody change it past the rule.
func TestStoredByEarlierVersions(t *testing.T) {
	m, here, told := newMount(t), newParty(t, trusted), newParty(t, trusted)
	sm := publishedRole(m)
	m.write("checks/default/c", d("url", here.URL, "headers", "X-API-Key: {{api_key}}"))
	m.write("alerts/a", d("type", "webhook", "url", told.URL+"/hook", "key", "signing-key-0123456789", "events", "rotation_completed"))
	m.ages()
	m.write("config", d("environment", "test")) // which says nothing of it
	kept := map[string]map[string]any{
		"checks/default/c": d("timeout", 6),
		"alerts/a":         d("notice", "48h"),
		"destinations/aws": d("timeout", 6, "verify", false),
	}
	for path, change := range kept {
		m.refused(logical.UpdateOperation, path, change, "outbound_hosts does not name it", "vault write smvm/config outbound_hosts=")
		m.warns(logical.ReadOperation, path, nil, "an earlier version stored it")
	}
	if answer := m.write("rotate", nil); answer["status"] != "completed" {
		t.Errorf("the rotation answered %v", answer)
	}
	m.same(sm)
	m.eventually("the alert", func() bool { return len(told.received()) > 0 })
	if len(here.received()) != 1 {
		t.Errorf("the check asked %d times", len(here.received()))
	}
	m.unfollowed()
	m.refused(logical.UpdateOperation, "checks/default/new", d("url", here.URL, "headers", "X-API-Key: {{api_key}}"), "outbound_hosts")

	m.listed()
	m.boot()
	m.fails(422, logical.UpdateOperation, "rotate", nil, "check c before the rotation", "outbound_hosts does not name it")
	m.listed(trusted)
	for path, change := range kept {
		m.write(path, change)
	}
	m.unfollowed()
	m.write("rotate", nil)
	m.same(sm)
}

// ages makes the storage one of before there was a rule: neither the configuration
// nor any entry has what belongs to it.
func (m *mount) ages() {
	m.Helper()
	for key, value := range m.storage.contents(m.T) {
		old := bytes.ReplaceAll([]byte(value), []byte(`,"checked":true`), nil)
		if key == settings.Key {
			var config map[string]any
			if err := json.Unmarshal(old, &config); err != nil {
				m.Fatal(err)
			}
			delete(config, "outbound_hosts")
			old, _ = json.Marshal(config)
		}
		if bytes.Contains(old, []byte(`"checked"`)) {
			m.Errorf("%s keeps %s", key, old)
		}
		if err := m.storage.Put(m.Context(), &logical.StorageEntry{Key: key, Value: old}); err != nil {
			m.Fatal(err)
		}
	}
	m.boot()
	m.tick(0)
}

// TestNobodyIsFollowed has each of the three redirected, by each status that does.
func TestNobodyIsFollowed(t *testing.T) {
	eachCarrier(t, func(m *mount, c carrier, here, there *party) {
		m.listed(trusted, foreign)
		if strings.HasPrefix(c.path, "destinations/") {
			c.data["allowed_roles"] = "*"
		}
		m.write(c.path, c.data)
		if strings.HasPrefix(c.path, "destinations/") {
			m.write("roles/default", d("destinations", "d"))
		}
		for _, status := range []int{301, 302, 303, 307, 308} {
			here.mu.Lock()
			here.got, here.answer = nil, func(w http.ResponseWriter) {
				w.Header().Set("Location", there.URL)
				w.WriteHeader(status)
			}
			here.mu.Unlock()
			m.provoke(c)
			m.eventually("a request that is redirected", func() bool {
				m.tick(time.Minute) // after which what failed is tried again
				return len(here.received()) > 0
			})
		}
	})
}

// provoke makes an entry send what it has, and lets it fail.
func (m *mount) provoke(c carrier) {
	m.Helper()
	switch {
	case strings.HasPrefix(c.path, "alerts/"):
		m.refused(logical.UpdateOperation, c.path+"/test", nil, "did not accept the test event", "status 30", "follows no redirects")
	case strings.HasPrefix(c.path, "checks/"):
		m.write("rotate", nil)
	default: // it publishes again after each change
		m.write(c.path, d("verify", false))
	}
}

// TestThroughAProxy sends all three through the proxy of the configuration.
func TestThroughAProxy(t *testing.T) {
	m, proxy := newMount(t), newParty(t, trusted)
	keyedRole(m)
	m.write("config", d("outbound_hosts", "192.0.2.0/24", "outbound_proxy", proxy.URL))
	m.write("checks/default/c", d("url", "http://192.0.2.1/health"))
	m.write("checks/default/k", d("url", "https://192.0.2.1/key", "headers", "X-API-Key: {{api_key}}", "attempts", 1, "on_failure", "alert"))
	m.write("alerts/a", d("type", "webhook", "url", "http://192.0.2.2/hook", "events", "rotation_failed"))
	m.write("alerts/a/test", nil)
	m.write("destinations/d", d("type", "webhook", "allowed_roles", "*", "url", "https://192.0.2.3/copy", "key", "signing-key-0123456789", "values", "x={{api_key}}", "verify", false))
	m.write("roles/default", d("destinations", "d"))
	m.published("d", publish.Failed)
	m.write("rotate", d("wait", 0))
	for _, line := range []string{"GET http://192.0.2.1/health ", "CONNECT 192.0.2.1:443 ", "POST http://192.0.2.2/hook ", "CONNECT 192.0.2.3:443 "} {
		m.eventually(line, func() bool {
			m.tick(time.Minute)
			return slices.ContainsFunc(proxy.received(), func(got string) bool { return strings.HasPrefix(got, line) })
		})
	}
	if text := strings.Join(proxy.received(), "\n"); strings.Contains(text, fmt.Sprint(m.read("creds", nil)["api_key"])) || strings.Contains(text, "X-Api-Key") {
		t.Errorf("the proxy saw %s", text)
	}
	if got := m.read("config", nil); got["outbound_proxy"] != proxy.URL || !slices.Equal(got["outbound_hosts"].([]string), []string{"192.0.2.0/24"}) {
		t.Errorf("the configuration reads %v", got)
	}
}
