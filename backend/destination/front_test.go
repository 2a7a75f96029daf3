package destination

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
)

// front is what lies between a target and what it stands for: a proxy with a fault.
type front struct {
	*httptest.Server
	fault atomic.Pointer[fault]
}

// fault takes over a request, or lets next have it.
type fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

func newFront(t *testing.T, address string) *front {
	t.Helper()
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	next := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	f := &front{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := f.fault.Load(); fault != nil {
			(*fault)(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// set puts a fault in the way, nil for none.
func (f *front) set(broken fault) {
	if broken == nil {
		f.fault.Store(nil)
		return
	}
	f.fault.Store(&broken)
}

// down ends the connection without an answer.
func down(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// slow never answers.
func slow(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body) // so that the end of the request is noticed
	<-r.Context().Done()
}

// deaf passes on what changes something, and the answer is lost.
func deaf(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if !changes(r) {
		next.ServeHTTP(w, r)
		return
	}
	next.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// lying keeps another value than it is given.
func lying(value string) fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, _ := io.ReadAll(r.Body)
		body = bytes.ReplaceAll(body, []byte(value), []byte("another"))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		next.ServeHTTP(w, r)
	}
}

// answer is what is said to all that changes something.
type answer struct {
	status int
	kind   string // of the error, in the header that AWS has for it
	body   string
}

func answering(a answer) fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !changes(r) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("X-Amzn-ErrorType", a.kind)
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
	}
}

// changes reports whether a request changes something at any of the targets, logins
// left aside.
func changes(r *http.Request) bool {
	switch action := r.Header.Get("X-Amz-Target"); action {
	case "":
		return r.Method != http.MethodGet && !bytes.HasPrefix([]byte(r.URL.Path), []byte("/v1/auth/"))
	default:
		return action != "secretsmanager.DescribeSecret" && action != "secretsmanager.GetSecretValue"
	}
}

// here is the rule that lets values go to this machine only.
var here = func() outbound.Rule {
	hosts, err := outbound.ParseHosts([]string{"127.0.0.1"})
	if err != nil {
		panic(err)
	}
	return outbound.Rule{Hosts: hosts}
}()

// bounded is a target with a deadline that fits tests.
type bounded struct{ Target }

func (b bounded) Publish(ctx context.Context, rule outbound.Rule, c Copy) error {
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	return b.Target.Publish(ctx, rule, c)
}
