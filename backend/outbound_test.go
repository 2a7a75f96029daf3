package backend

import (
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

// party is somebody who takes whatever is sent, and keeps it.
type party struct {
	*httptest.Server
	mu  sync.Mutex
	got []string
	// answer is what is said to each request; nil is 200.
	answer func(http.ResponseWriter)
}

// newParty starts one at an address of this machine.
func newParty(t *testing.T, ip string) *party {
	t.Helper()
	p := &party{}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.got = append(p.got, fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Header, " ", string(body)))
		if p.answer != nil {
			p.answer(w)
		}
	}))
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Listener.Close()
	p.Listener = listener
	p.Start()
	t.Cleanup(p.Close)
	return p
}

// received is all there is so far.
func (p *party) received() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

// nothing fails the test if anything was sent to it.
func (p *party) nothing(m *mount) {
	m.Helper()
	if got := p.received(); len(got) != 0 {
		m.Errorf("it received %q", got)
	}
}

// The addresses of who may get values, and of who may not.
const (
	trusted = "127.0.0.1"
	foreign = "127.0.0.2"
)

// carrier is one kind of entry that sends values or credentials.
type carrier struct {
	path string
	// way is the setting that says where to, secrets are sent there.
	way     string
	data    map[string]any
	secrets []string
}

// carriers are all kinds of entries that send values or credentials.
func carriers(address string) map[string]carrier {
	const key = "signing-key-0123456789"
	values := []string{"x={{api_key}}"}
	of := func(path, way string, secrets []string, data ...any) carrier {
		switch {
		case strings.HasPrefix(path, "checks/"):
			data = append(data, "attempts", 1, "on_failure", "alert", way, address)
		case strings.HasPrefix(path, "alerts/"):
			data = append(data, way, address+"/hook")
		default:
			data = append(data, way, address)
		}
		return carrier{path, way, d(data...), secrets}
	}
	return map[string]carrier{
		"check with a value":    of("checks/default/c", "url", []string{"headers"}, "headers", "X-API-Key: {{api_key}}"),
		"check with a secret":   of("checks/default/c", "url", []string{"headers"}, "headers", "Authorization: Bearer literal-0123456789"),
		"check with a body":     of("checks/default/c", "url", []string{"body"}, "method", "POST", "body", "{{api_key}}"),
		"check with both":       of("checks/default/c", "url", []string{"headers", "body"}, "headers", "X: y", "body", "literal-0123456789"),
		"alert that authorizes": of("alerts/a", "url", []string{"authorization"}, "type", "alertmanager", "authorization", "Bearer literal-0123456789"),
		"alert that signs":      of("alerts/a", "url", []string{"key"}, "type", "webhook", "key", key),
		"alert with both":       of("alerts/a", "url", []string{"key", "authorization"}, "type", "webhook", "key", key, "authorization", "Bearer literal-0123456789"),
		"webhook":               of("destinations/d", "url", []string{"key"}, "type", "webhook", "key", key, "values", values, "verify", false),
		"webhook with a literal": of("destinations/d", "url", []string{"key", "values"}, "type", "webhook", "key", key,
			"values", []string{"x=literal-0123456789-{{api_key}}"}, "verify", false),
		"kv by token": of("destinations/d", "address", []string{"token"}, "type", "vault_kv", "token", "token-0123456789", "values", values, "verify", false),
		"kv by role": of("destinations/d", "address", []string{"secret_id"}, "type", "vault_kv", "role_id", "role-0123456789",
			"secret_id", "secret-id-0123456789", "values", values, "verify", false),
		"aws": of("destinations/d", "endpoint", []string{"secret_access_key"}, "type", "aws_secrets_manager", "region", "eu-central-1",
			"access_key_id", "AKIDEXAMPLE", "secret_access_key", "secret-access-key-0123456789", "values", values, "verify", false),
		"sts": of("destinations/d", "sts_endpoint", []string{"secret_access_key"}, "type", "aws_secrets_manager", "region", "eu-central-1", "endpoint", address,
			"access_key_id", "AKIDEXAMPLE", "secret_access_key", "secret-access-key-0123456789", "role_arn", "arn:aws:iam::123456789012:role/smvm",
			"values", values, "verify", false),
	}
}

// keyedRole is a role with an API key.
func keyedRole(m *mount) {
	m.Helper()
	m.write("roles/default", d("rotation_period", "24h"))
	m.write("secrets/default/api", d("type", "api_key"))
}

// eachCarrier tries every kind, each on a mount of its own.
func eachCarrier(t *testing.T, test func(m *mount, c carrier, here, there *party)) {
	for name := range carriers("") {
		t.Run(name, func(t *testing.T) {
			m, here, there := newMount(t), newParty(t, trusted), newParty(t, foreign)
			keyedRole(m)
			test(m, carriers(here.URL)[name], here, there)
			there.nothing(m)
		})
	}
}

// use is what a host may be limited to for it.
func (c carrier) use() string {
	use, _, _ := strings.Cut(c.path, "/")
	return use
}

// with is the data with other fields.
func (c carrier) with(more ...any) map[string]any {
	data := d(more...)
	for name, value := range c.data {
		if _, other := data[name]; !other {
			data[name] = value
		}
	}
	return data
}

// TestOnlyListedGetValues refuses to store what would send values or credentials to
// who is not listed, and says what may be done about it.
func TestOnlyListedGetValues(t *testing.T) {
	eachCarrier(t, func(m *mount, c carrier, _, there *party) {
		host := strings.TrimPrefix(there.URL, "http://")
		elsewhere := c.with(c.way, there.URL, "endpoint", there.URL)
		if c.way != "endpoint" && c.way != "sts_endpoint" {
			delete(elsewhere, "endpoint")
		}
		m.refused(logical.UpdateOperation, c.path, elsewhere, "outbound_hosts", "vault write smvm/config outbound_hosts="+c.use()+"="+host)
		m.listed(trusted, "example.com")
		m.refused(logical.UpdateOperation, c.path, elsewhere, "outbound_hosts=127.0.0.1,example.com,"+c.use()+"="+host)
		m.refused(logical.UpdateOperation, c.path, c.with(c.way, "http://example.com"), c.way, "in clear", "https://")
		m.refused(logical.UpdateOperation, c.path, c.with(c.way, "https://169.254.169.254"), c.way, "nothing is ever sent there")
		m.write(c.path, c.data)
		if got := m.read(c.path, nil)["outbound"]; got != "listed" {
			m.Errorf("%s is %v", c.path, got)
		}
	})
}

// TestStoredSecretsStay has whoever may change an entry try to get by it what is
// stored there, by each setting that says where it is sent, also where that one is
// listed: in one write, and in several.
func TestStoredSecretsStay(t *testing.T) {
	eachCarrier(t, func(m *mount, c carrier, _, there *party) {
		m.listed(trusted, foreign)
		m.write(c.path, c.data)
		for _, secret := range c.secrets {
			given := d(c.way, there.URL)
			for _, other := range c.secrets {
				if other != secret {
					given[other] = c.data[other]
				}
			}
			m.refused(logical.UpdateOperation, c.path, given, secret+": must be given again, because "+c.way)
		}
		for way, value := range c.otherWays() {
			m.refused(logical.UpdateOperation, c.path, d(way, value), "must be given again, because "+way+" changes where it is sent")
		}
	})
}

// otherWays are changes of how an entry is sent, beside that of its address.
func (c carrier) otherWays() map[string]string {
	ways := map[string]string{"tls_ca": aCA()}
	switch c.data["type"] {
	case "alertmanager":
		ways["type"] = "slack"
	case "vault_kv":
		ways["mount"], ways["namespace"], ways["auth_mount"] = "other", "ns", "other"
	case "aws_secrets_manager":
		ways["region"], ways["role_arn"] = "us-east-1", "arn:aws:iam::123456789012:role/other"
		ways["endpoint"], ways["sts_endpoint"] = "http://127.0.0.2:1", "http://127.0.0.2:1"
	}
	return ways
}

// aCA is a certificate that vouches for somebody else.
var aCA = sync.OnceValue(func() string {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
})

// TestDeletedIsGone makes an entry of the same name after the first was deleted: it
// has nothing of that.
func TestDeletedIsGone(t *testing.T) {
	eachCarrier(t, func(m *mount, c carrier, here, _ *party) {
		m.listed(trusted)
		m.write(c.path, c.data)
		m.delete(c.path)
		heir := c.with()
		for _, secret := range append(c.secrets, "body", "headers") {
			delete(heir, secret)
		}
		if strings.HasPrefix(c.path, "destinations/") {
			m.refused(logical.UpdateOperation, c.path, heir)
			return
		}
		m.write(c.path, heir)
		if strings.HasPrefix(c.path, "alerts/") {
			m.write(c.path+"/test", nil)
		} else {
			m.write("rotate", nil)
		}
		got := strings.Join(here.received(), "\n")
		for _, secret := range c.secrets {
			if text := fmt.Sprint(c.data[secret]); got == "" || strings.Contains(got, text) {
				m.Errorf("it received %q", got)
			}
		}
	})
}
