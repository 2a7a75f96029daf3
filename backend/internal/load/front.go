package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// maxBody bounds a request that may have to be sent to another node, in bytes.
const maxBody = 1 << 20

// front sends a request to a node that answers. Standbys forward to the active
// one.
type front struct {
	hosts []string
	last  atomic.Int64 // the node that answered last
}

// newFront returns a handler that reaches the cluster as long as a node does.
func newFront(c *testenv.Cluster) http.Handler {
	f := &front{}
	for _, v := range c.Nodes {
		f.hosts = append(f.hosts, strings.TrimPrefix(v.Address, "http://"))
	}
	proxy := &httputil.ReverseProxy{Transport: f, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: f.hosts[0]})
	}}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	return proxy
}

// RoundTrip implements http.RoundTripper: a node that can't be reached, or that
// is sealed, is passed over.
func (f *front) RoundTrip(r *http.Request) (*http.Response, error) {
	var body string
	if r.Body != nil {
		text, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err != nil {
			return nil, err
		}
		body = string(text)
	}
	err := errors.New("there is no node")
	for i := range f.hosts {
		at := (int(f.last.Load()) + i) % len(f.hosts)
		r.URL.Host, r.Host = f.hosts[at], f.hosts[at]
		r.Body = io.NopCloser(strings.NewReader(body))
		var response *http.Response
		response, err = http.DefaultTransport.RoundTrip(r)
		if err == nil && response.StatusCode != http.StatusServiceUnavailable {
			f.last.Store(int64(at))
			return response, nil
		}
		if err == nil {
			_ = response.Body.Close()
			err = errors.New("the node is sealed")
		}
	}
	return nil, err
}
