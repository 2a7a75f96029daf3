package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
)

// The bounds of an answer.
const (
	maxHeader = 64 << 10
	maxAnswer = 1 << 20
)

// Client returns a client that asks the rule before each request and at each
// connection, and trusts the PEM bundle ca, or the system's if it is empty. Carries
// says that values or credentials go along. It uses no proxy but the rule's, follows
// no redirect, because both might take what is sent elsewhere, and reads no more
// than the first megabyte of an answer. The caller closes its idle connections.
func (r Rule) Client(ca string, carries bool) (*http.Client, error) {
	roots, err := pool(ca)
	if err != nil {
		return nil, err
	}
	g := &guard{rule: r, carries: carries, roots: roots}
	g.transport = &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		MaxIdleConnsPerHost: 100, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: maxHeader,
		DialContext: g.dial, Proxy: g.proxy,
	}
	if r.Proxy != nil && r.Proxy.Scheme == "https" {
		g.transport.DialTLSContext = g.dialTLS
	}
	return &http.Client{
		Transport:     g,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// guard is a transport that obeys a rule.
type guard struct {
	rule      Rule
	carries   bool
	roots     *x509.CertPool
	transport *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.ask(req); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	resp, err := g.transport.RoundTrip(req)
	if err == nil {
		resp.Body = bounded{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// CloseIdleConnections is what that of http.Client calls.
func (g *guard) CloseIdleConnections() { g.transport.CloseIdleConnections() }

// bounded is a body of which only the beginning is read.
type bounded struct {
	io.Reader
	io.Closer
}

// ask asks the rule about where a request goes, and about whom it names in its Host
// header: a front that many share passes it on to them.
func (g *guard) ask(req *http.Request) error {
	t, err := targetOf(req.URL)
	if err != nil {
		return refusal("the address %v", err)
	}
	if err := g.rule.admit(t, g.carries); err != nil {
		return err
	}
	if req.Host != "" && req.Host != req.URL.Host {
		if err := g.rule.CheckHost(req.URL.Scheme, req.Host, g.carries); err != nil {
			return err
		}
	}
	if proxy, err := g.proxy(req); err != nil || proxy == nil || t.ip.IsValid() {
		return err
	}
	for _, ip := range g.rule.addresses(req.Context(), t) {
		if forbidden(ip) != "" {
			return g.rule.reach(t, ip, g.carries)
		}
	}
	return nil
}

// CheckHost says why a request may not name host in its Host header. No address is
// connected to for it, so only its name can admit it.
func (r Rule) CheckHost(scheme, host string, carries bool) error {
	t, err := targetOf(&url.URL{Scheme: scheme, Host: host})
	switch {
	case err != nil:
		return refusal("the Host header %v", err)
	case carries && !r.kept && !r.Hosts.have(r.Use, t):
		return r.unlisted(t)
	}
	return nil
}

// proxy is the one that a request goes through, nil for none.
func (g *guard) proxy(req *http.Request) (*url.URL, error) {
	t, err := targetOf(req.URL)
	if err != nil || t.local() {
		return nil, err
	}
	return g.rule.Proxy, nil
}

// proxied reports whether an address to connect to is the proxy's.
func (g *guard) proxied(t target) bool {
	if g.rule.Proxy == nil {
		return false
	}
	proxy, err := targetOf(g.rule.Proxy)
	return err == nil && proxy.name == t.name && proxy.port == t.port
}

// dial connects to an address that the rule admits. It is asked about the one that
// the system is about to connect to, so no second answer of DNS can differ.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	t, err := newTarget(host, port)
	if err != nil {
		return nil, refusal("the address %v", err)
	}
	carries := g.carries && !g.proxied(t)
	dialer := &net.Dialer{Resolver: g.rule.Resolver, ControlContext: func(_ context.Context, _, actual string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(actual)
		if err != nil {
			return refusal("the address %v", err)
		}
		return g.rule.reach(t, to.Addr(), carries)
	}}
	return dialer.DialContext(ctx, network, address)
}

// dialTLS is dial for a proxy of https, which the system's certificates vouch for:
// the bundle of an entry is about its own target.
func (g *guard) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := g.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: g.roots}
	if t, err := newTarget(host, port); err == nil && g.proxied(t) {
		config.RootCAs = nil
	}
	encrypted := tls.Client(conn, config)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return encrypted, nil
}
