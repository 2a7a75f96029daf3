package outbound

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// connector is a proxy that connects whoever asks to one server, whatever they name.
type connector struct {
	*httptest.Server
	to    string
	mu    sync.Mutex
	lines []string // of the requests, with their headers
}

// newConnector starts one, by https if that is said.
func newConnector(t *testing.T, to string, encrypted bool) *connector {
	t.Helper()
	c := &connector{to: to}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(c.serve))
	c.Config.ErrorLog = quiet
	if encrypted {
		c.StartTLS()
	} else {
		c.Start()
	}
	t.Cleanup(c.Close)
	return c
}

func (c *connector) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.lines = append(c.lines, r.Method+" "+r.RequestURI+" "+r.Header.Get("Authorization"))
	c.mu.Unlock()
	if r.Method != http.MethodConnect {
		return
	}
	server, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", c.to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	client, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connected\r\n\r\n")
	go func() {
		_, _ = io.Copy(server, buffered)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
	_ = client.Close()
}

// saw is what the proxy was asked.
func (c *connector) saw() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.lines)
}

// through is a rule that goes through the proxy.
func (c *connector) through(t *testing.T, hosts ...string) Rule {
	t.Helper()
	rule := listing(t, hosts...)
	proxy, err := ParseProxy(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	rule.Proxy = proxy
	return rule
}

// TestProxy connects to a name that only the proxy knows, with TLS to the end.
func TestProxy(t *testing.T) {
	t.Parallel()
	server, ca := named(t, "orders.test")
	proxy, dns := newConnector(t, server.Listener.Addr().String(), false), &names{}
	rule := proxy.through(t, "orders.test", "127.0.0.1")
	rule.Resolver = dns.resolver(t)
	dns.set("192.0.2.1") // which nobody connects to
	if status, err := Post(t.Context(), rule, Message{URL: "https://orders.test/hook", TLSCA: ca, Authorization: "Bearer secret"}); err != nil || status != http.StatusOK {
		t.Errorf("through the proxy: status %d, %v", status, err)
	}
	if got := server.latest.Load(); got == nil || got.Header.Get("Authorization") != "Bearer secret" {
		t.Error("the server did not get what was sent")
	}
	if saw := proxy.saw(); !slices.Equal(saw, []string{"CONNECT orders.test:443 "}) {
		t.Errorf("the proxy saw %q", saw)
	}
	for address, word := range map[string]string{
		"https://evil.test":             "outbound_hosts does not name it",
		"https://169.254.169.254":       "nothing is ever sent there",
		"https://[64:ff9b::a9fe:a9fe]/": "nothing is ever sent there",
		"http://orders.test":            "in clear",
	} {
		_, err := Post(t.Context(), rule, Message{URL: address, Authorization: "Bearer secret"})
		refusedFor(t, err, word)
	}
	dns.set("169.254.1.1")
	_, err := Post(t.Context(), rule, Message{URL: "http://plain.test"})
	refusedFor(t, err, "nothing is ever sent there")
	if saw := proxy.saw(); len(saw) != 1 {
		t.Errorf("the proxy saw %q too", saw[1:])
	}
}

// TestProxyIsNotForHere sends what is of this machine straight there: it is not
// encrypted, and at the proxy it would be another machine.
func TestProxyIsNotForHere(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	proxy := newConnector(t, "127.0.0.1:1", false)
	rule := proxy.through(t, "127.0.0.1", "localhost")
	for _, address := range []string{r.URL, "http://localhost:" + r.port()} {
		if status, err := Post(t.Context(), rule, Message{URL: address, Key: "k"}); err != nil || status != http.StatusOK {
			t.Errorf("%s: status %d, %v", address, status, err)
		}
	}
	if saw := proxy.saw(); len(saw) != 0 {
		t.Errorf("the proxy saw %q", saw)
	}
}

// TestEncryptedProxy is believed by the system's certificates, and not by those that
// an entry has for its own target.
func TestEncryptedProxy(t *testing.T) {
	t.Parallel()
	server, _ := named(t, "orders.test")
	proxy, dns := newConnector(t, server.Listener.Addr().String(), true), &names{}
	rule := proxy.through(t, "orders.test")
	rule.Resolver = dns.resolver(t)
	dns.set("192.0.2.1")
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})
	_, err := Post(t.Context(), rule, Message{URL: "https://orders.test", TLSCA: string(own), Key: "k"})
	if err == nil || !strings.Contains(err.Error(), "certificate") || len(proxy.saw()) != 0 {
		t.Errorf("a proxy that the entry vouches for: %v; it saw %q", err, proxy.saw())
	}
}

// named is a server with a certificate for a name, and the CA that vouches for it.
func named(t *testing.T, name string) (*recorder, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, own, own, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		r.asked.Add(1)
		r.latest.Store(req.Clone(context.Background()))
	}))
	r.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	r.Config.ErrorLog = quiet
	r.StartTLS()
	t.Cleanup(r.Close)
	return r, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
