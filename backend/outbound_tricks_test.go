package backend

import (
	"cmp"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

// TestFreeChecksOnlyAsk has a check of which nobody has heard change something where
// Vault can reach it, and others cannot.
func TestFreeChecksOnlyAsk(t *testing.T) {
	m, inside := newMount(t), newParty(t, foreign)
	keyedRole(m)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "PURGE"} {
		m.refused(logical.UpdateOperation, "checks/default/c", d("url", inside.URL+"/shutdown", "method", method), "url", "outbound_hosts")
	}
	m.write("checks/default/c", d("url", inside.URL+"/health", "method", "HEAD"))
	m.refused(logical.UpdateOperation, "checks/default/c", d("method", "DELETE"), "url", "outbound_hosts")
	m.write("rotate", nil)
	if got := inside.received(); len(got) != 1 || !strings.HasPrefix(got[0], "HEAD /health map[User-Agent:[Go-http-client/1.1]] ") {
		t.Errorf("it received %q", got)
	}
}

// TestNoCheckOfADestination keeps values from who has an account where copies go: a
// check could write them there under the operator's own name.
func TestNoCheckOfADestination(t *testing.T) {
	m, vault := newMount(t), newParty(t, trusted)
	keyedRole(m)
	m.listed("destinations=" + trusted)
	m.write("destinations/kv", d("type", "vault_kv", "address", vault.URL, "token", "token-0123456789", "values", "x={{api_key}}", "verify", false))
	m.refused(logical.UpdateOperation, "checks/default/c", d("url", vault.URL+"/v1/cubbyhole/mine", "method", "PUT", "phase", "before",
		"headers", "X-Vault-Token: of-the-operator-0123456789", "body", `{"value":"{{api_key}}"}`), "url", "outbound_hosts=destinations=127.0.0.1,checks=127.0.0.1:")
	m.refused(logical.UpdateOperation, "alerts/a", d("type", "webhook", "url", vault.URL+"/hook", "key", "signing-key-0123456789"), "url", "alerts=127.0.0.1:")
	vault.nothing(m)
}

// TestTricksOfChecks tries what a check might be talked into.
func TestTricksOfChecks(t *testing.T) {
	m, here := newMount(t), newParty(t, trusted)
	keyedRole(m)
	m.write("secrets/default/lines", d("type", "random", "skip_import_rotation", true, "value", "a\r\nX-Evil: b\r\n\r\n"))
	m.listed(trusted, "orders.example.com")
	const key = "X-API-Key: {{api_key}}"
	for _, c := range []struct {
		data  map[string]any
		words []string
	}{
		{d("headers", []string{key, "Host: evil.example"}), []string{"headers", "Host", "outbound_hosts=127.0.0.1,orders.example.com,checks=evil.example"}},
		{d("headers", []string{key, "host:evil.example"}), []string{"headers", "Host"}},
		{d("headers", []string{key, "Host: {{api_key}}"}), []string{"headers", "Host", "placeholder"}},
		{d("headers", []string{"{{api_key}}: x"}), []string{"headers"}},
		{d("headers", []string{key + "\r\nHost: evil.example"}), []string{"headers"}},
		{d("headers", key, "method", "CONNECT"), []string{"method", "CONNECT"}},
		{d("headers", key, "method", "TRACE"), []string{"method", "TRACE"}},
		{d("headers", key, "url", "http://127.0.0.1@127.0.0.2/"), []string{"url", "user name"}},
		{d("headers", key, "url", "http://127.0.0.1/%7B%7Bapi_key}}{{"), []string{"url", "placeholder"}},
	} {
		c.data["url"] = cmp.Or(c.data["url"], any(here.URL))
		m.refused(logical.UpdateOperation, "checks/default/c", c.data, c.words...)
	}
	m.write("checks/default/c", d("url", here.URL, "headers", []string{key, "Host: orders.example.com", "X-Lines: {{lines_value}}"}, "attempts", 1, "on_failure", "alert"))
	m.write("rotate", d("secrets", "api"))
	if got := here.received(); len(got) != 0 {
		t.Errorf("a value with line breaks was sent in a header: %q", got)
	}
}

// TestAddressIsASecretToo keeps the address of a chat, of which only the host is
// shown, from who would have another CA vouch for that host.
func TestAddressIsASecretToo(t *testing.T) {
	m, here := newMount(t), newParty(t, trusted)
	m.write("alerts/chat", d("type", "slack", "url", here.URL+"/services/token-0123456789"))
	m.refused(logical.UpdateOperation, "alerts/chat", d("tls_ca", aCA()), "url: must be given again, because tls_ca")
	m.refused(logical.UpdateOperation, "alerts/chat", d("type", "webhook"), "url: must be given again, because type")
	m.write("alerts/chat", d("events", "rotation_failed"))
	m.write("alerts/chat", d("tls_ca", aCA(), "url", here.URL+"/services/token-0123456789"))
}
