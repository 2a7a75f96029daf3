package smvmcreds

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
)

// TestProxyInClear has the environment name a proxy, which is asked for nothing that
// it could read. The environment counts from the start of a process, so it takes one.
func TestProxyInClear(t *testing.T) {
	if os.Getenv("SMVM_TEST_PROXIED") != "" {
		// The name resolves nowhere: a proxy is the only way to an answer.
		for _, address := range []string{"http://vault.invalid:8200", "HTTP://vault.invalid:8200", "https://vault.invalid:8200"} {
			v := &Vault{Address: address, Path: "smvm/creds/orders", Auth: Token("hvs.hunter2")}
			if _, err := v.Read(t.Context(), nil); err == nil {
				t.Errorf("there is an answer from %s", address)
			}
		}
		return
	}
	asked := map[string]int{}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.Method]++
		if r.Header.Get("X-Vault-Token") != "" {
			t.Errorf("the proxy is shown the token, by %s %s", r.Method, r.URL)
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer proxy.Close()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyInClear$") //nolint:gosec // this test
	child.Env = append(os.Environ(), "SMVM_TEST_PROXIED=1", "HTTP_PROXY="+proxy.URL, "HTTPS_PROXY="+proxy.URL, "NO_PROXY=")
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if asked[http.MethodConnect] != 1 || len(asked) != 1 {
		t.Errorf("want a tunnel for https and nothing else, the proxy was asked for %v", asked)
	}
}
