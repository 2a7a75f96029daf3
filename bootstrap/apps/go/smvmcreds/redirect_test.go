package smvmcreds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// redirecting is a Vault whose answers to one kind of request point elsewhere.
type redirecting struct {
	*httptest.Server
	// elsewhere counts the requests that followed.
	elsewhere atomic.Int64
}

// redirect serves what Vault answers, but for the paths that contain part, which
// it answers with the code.
func redirect(t *testing.T, code int, part string) *redirecting {
	t.Helper()
	r := &redirecting{}
	answer := func(w http.ResponseWriter) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"auth": map[string]any{"client_token": "hvs.hunter2", "lease_duration": 3600, "renewable": true},
			"data": map[string]any{"version": 1, "ttl": 10, "token": "signed"},
		})
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		r.elsewhere.Add(1)
		answer(w)
	}))
	t.Cleanup(other.Close)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.Contains(q.URL.Path, part) {
			w.Header().Set("Location", other.URL+"/v1/"+part+"?with=query")
			w.WriteHeader(code)
			return
		}
		answer(w)
	}))
	t.Cleanup(r.Close)
	return r
}

// loginFiles are what AppRole reads.
func loginFiles(t *testing.T) *AppRole {
	t.Helper()
	a := &AppRole{RoleIDFile: filepath.Join(t.TempDir(), "role_id"), SecretIDFile: filepath.Join(t.TempDir(), "secret_id")}
	for _, file := range []string{a.RoleIDFile, a.SecretIDFile} {
		if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// TestRedirects has Vault answer every kind of request with every kind of
// redirect: the server that it points at gets nothing.
func TestRedirects(t *testing.T) {
	claims := jwt.RegisteredClaims{Subject: "alice"}
	kinds := map[string]struct {
		part string
		ask  func(ctx context.Context, v *Vault) error
	}{
		"read": {"creds", func(ctx context.Context, v *Vault) error { _, err := v.Read(ctx, nil); return err }},
		"sign": {"sign", func(ctx context.Context, v *Vault) error { _, err := v.Sign(ctx, "jwt", claims); return err }},
		"login": {"login", func(ctx context.Context, v *Vault) error {
			v.Auth = loginFiles(t)
			_, err := v.Read(ctx, nil)
			return err
		}},
		"renew": {"renew-self", func(ctx context.Context, v *Vault) error {
			a := loginFiles(t)
			v.Auth = a
			a.mu.Lock()
			defer a.mu.Unlock()
			a.token = "hvs.hunter2"
			return a.renewLocked(ctx, v)
		}},
	}
	for what, kind := range kinds {
		for _, code := range []int{300, 301, 302, 303, 305, 307, 308} {
			t.Run(fmt.Sprintf("%s %d", what, code), func(t *testing.T) {
				r := redirect(t, code, kind.part)
				v := &Vault{
					Address: r.URL, Path: "smvm/creds/orders", Auth: Token("hvs.hunter2"),
					HTTP: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }},
				}
				err := kind.ask(t.Context(), v)
				if err == nil || !strings.Contains(err.Error(), "points at http://127.0.0.1:") || strings.Contains(err.Error(), "query") || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("it is answered %v", err)
				}
				var refusal *StatusError
				if errors.As(err, &refusal) {
					t.Error("a redirect counts as a refusal, which would have it log in again")
				}
				if n := r.elsewhere.Load(); n != 0 {
					t.Errorf("the other server got %d requests", n)
				}
			})
		}
	}
}

// TestRedirectText shows what a redirect's target may not do to an error.
func TestRedirectText(t *testing.T) {
	for location, want := range map[string]string{
		"https://active:8200/v1/x?secret=1#y":    "points at https://active:8200,",
		"https://user:password@active:8200/v1/x": "points at https://active:8200,",
		"":                                       "points at another address,",
		"https://a\nb/":                          "points at another address,",
	} {
		request := httptest.NewRequest(http.MethodGet, "http://vault:8200/v1/x", nil)
		response := &http.Response{StatusCode: http.StatusTemporaryRedirect, Header: http.Header{}, Request: request}
		if location != "" {
			response.Header.Set("Location", location)
		}
		if err := redirected(response); !strings.Contains(err.Error(), want) {
			t.Errorf("of %q it says %v", location, err)
		}
	}
}
