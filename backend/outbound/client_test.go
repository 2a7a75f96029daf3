package outbound

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// recorder is a server that counts who asks it, and notes the latest of them.
type recorder struct {
	*httptest.Server
	asked  atomic.Int64
	latest atomic.Pointer[http.Request]
}

func newRecorder(t *testing.T, serve http.HandlerFunc) *recorder {
	t.Helper()
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.asked.Add(1)
		r.latest.Store(req.Clone(context.Background()))
		if serve != nil {
			serve(w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// port is where it listens.
func (r *recorder) port() string {
	_, port, _ := net.SplitHostPort(r.Listener.Addr().String())
	return port
}

// get sends a credential there by a rule, and returns what it read of the answer.
func get(t *testing.T, rule Rule, carries bool, address string, headers ...string) ([]byte, error) {
	t.Helper()
	client, err := rule.Client("", carries)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	req.Host = req.Header.Get("Host")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	return io.ReadAll(resp.Body)
}

func refusedFor(t *testing.T, err error, word string) {
	t.Helper()
	var refused *Refusal
	if !errors.As(err, &refused) || !strings.Contains(refused.Error(), word) || Reason(err).Error() != refused.Error() {
		t.Errorf("it is not refused for %q, but %v", word, err)
	}
}

// TestConnections asks the rule about the address that is connected to, after every
// answer of DNS.
func TestConnections(t *testing.T) {
	t.Parallel()
	r, dns := newRecorder(t, nil), &names{}
	rule := listing(t, "localhost", "127.0.0.1")
	rule.Resolver = dns.resolver(t)
	address := "https://orders.test:" + r.port()
	for _, c := range []struct {
		answers []string
		carries bool
		word    string // empty: it is connected to, and speaks no TLS
	}{
		{[]string{"127.0.0.1"}, true, ""},
		{[]string{"127.0.0.2"}, true, "outbound_hosts does not name it"},
		{[]string{"127.0.0.2"}, false, ""},
		{[]string{"::1"}, true, "outbound_hosts does not name it"},
		{[]string{"169.254.1.1"}, true, "orders.test resolves to 169.254.1.1"},
		{[]string{"169.254.1.1"}, false, "nothing is ever sent there"},
		{[]string{"fd00:ec2::1"}, false, "nothing is ever sent there"},
		{[]string{"64:ff9b::a9fe:101"}, false, "nothing is ever sent there"},
		{[]string{"0.0.0.0"}, false, "nothing is ever sent there"},
		{[]string{"::ffff:169.254.1.1"}, false, "nothing is ever sent there"},
	} {
		dns.set(c.answers...)
		_, err := get(t, rule, c.carries, address)
		if c.word == "" {
			var refused *Refusal
			if err == nil || errors.As(err, &refused) {
				t.Errorf("%v: %v", c.answers, err)
			}
			continue
		}
		refusedFor(t, err, c.word)
	}
	if n := r.asked.Load(); n != 0 {
		t.Errorf("the server without TLS got %d requests", n)
	}
}

// TestRebinding admits a name by what it resolves to, and then finds it changed.
func TestRebinding(t *testing.T) {
	t.Parallel()
	dns := &names{}
	rule := listing(t, "127.0.0.1")
	rule.Resolver = dns.resolver(t)
	const address = "https://rebound.test:1"
	dns.set("127.0.0.1", "127.0.0.2", "169.254.1.1")
	if err := rule.Admit(t.Context(), address, true); err != nil {
		t.Errorf("at first it is refused: %v", err)
	}
	_, err := get(t, rule, true, address)
	refusedFor(t, err, "outbound_hosts does not name it")
	_, err = get(t, rule, true, address)
	refusedFor(t, err, "nothing is ever sent there")
	refusedFor(t, rule.Admit(t.Context(), address, true), "outbound_hosts does not name it")
}

// TestLocalhostIsHere is about a localhost that DNS has elsewhere: what is sent to it
// is not encrypted.
func TestLocalhostIsHere(t *testing.T) {
	t.Parallel()
	rule := listing(t, "localhost", "192.0.2.0/24")
	local, err := newTarget("localhost", "80")
	if err != nil {
		t.Fatal(err)
	}
	for text, ok := range map[string]bool{"127.0.0.1": true, "::1": true, "127.9.9.9": true, "192.0.2.1": false, "10.0.0.1": false} {
		to, err := newTarget(text, "80")
		if err != nil {
			t.Fatal(err)
		}
		if err := rule.reach(local, to.ip, true); (err == nil) != ok {
			t.Errorf("localhost at %s: %v", text, err)
		}
	}
}

// TestRedirects are not followed, whatever their status, and take nothing anywhere.
func TestRedirects(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		elsewhere := newRecorder(t, nil)
		r := newRecorder(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(status)
		})
		if _, err := get(t, listing(t, "127.0.0.1"), true, r.URL, "Authorization", "Bearer secret"); err != nil {
			t.Error(err)
		}
		got, err := Post(t.Context(), listing(t, "127.0.0.1"), Message{URL: r.URL, Authorization: "Bearer secret", Key: "k"})
		if err != nil || got != status || r.asked.Load() != 2 || elsewhere.asked.Load() != 0 {
			t.Errorf("after a %d: status %d, %v; %d requests there, %d elsewhere", status, got, err, r.asked.Load(), elsewhere.asked.Load())
		}
	}
}

// TestRuleAtEachRequest refuses by a rule of now what one of before let pass.
func TestRuleAtEachRequest(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	if _, err := get(t, listing(t, "127.0.0.1"), true, r.URL); err != nil {
		t.Error(err)
	}
	for _, rule := range []Rule{{}, listing(t), listing(t, "127.0.0.1:1"), listing(t, "example.com")} {
		_, err := get(t, rule, true, r.URL)
		refusedFor(t, err, "outbound_hosts does not name it")
		_, err = Post(t.Context(), rule, Message{URL: r.URL, Key: "k"})
		refusedFor(t, err, "outbound_hosts does not name it")
	}
	if n := r.asked.Load(); n != 1 {
		t.Errorf("it got %d requests", n)
	}
	if _, err := Post(t.Context(), Rule{}, Message{URL: r.URL}); err != nil {
		t.Errorf("what carries nothing is not sent: %v", err)
	}
}

// TestHostHeader names a host behind a front that many share.
func TestHostHeader(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	rule := listing(t, "127.0.0.1", "orders.example.com")
	for _, host := range []string{"evil.example", "evil.example:443", "orders.example.com.evil.example", "a@b", "a b", "orders.example.com/x"} {
		if _, err := get(t, rule, true, r.URL, "Host", host); err == nil {
			t.Errorf("it may be for %s", host)
		}
	}
	if n := r.asked.Load(); n != 0 {
		t.Errorf("it got %d requests", n)
	}
	if _, err := get(t, rule, true, r.URL, "Host", "orders.example.com"); err != nil || r.latest.Load().Host != "orders.example.com" {
		t.Errorf("a virtual host that is listed: %v", err)
	}
}

// TestEnvironment has a proxy, which only the configuration may name.
func TestEnvironment(t *testing.T) {
	r, proxy := newRecorder(t, nil), newRecorder(t, nil)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	dns := &names{}
	dns.set("127.0.0.1")
	rule := listing(t, "127.0.0.1")
	rule.Resolver = dns.resolver(t)
	u := url.URL{Scheme: "http", Host: "orders.test:" + r.port()}
	if _, err := get(t, rule, false, u.String()); err != nil || r.asked.Load() != 1 || proxy.asked.Load() != 0 {
		t.Errorf("%v: %d requests there, %d at the proxy", err, r.asked.Load(), proxy.asked.Load())
	}
}
