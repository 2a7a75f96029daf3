package bootstrap

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// oddToTested are odd answers of Vault to tested.sh, in order, and what comes of them. The last is what
// any further request gets.
var oddToTested = map[string]struct {
	answers []string // status and body
	says    string
	fails   bool
}{
	"a Vault that starts":  {[]string{"503 {}", "200 {}", "200 {}"}, "has failed the tests (exit-code exited 1). Rollback", false},
	"a rotation under way": {[]string{"200 {}", `409 {"errors":["busy"]}`, "200 {}", "200 {}"}, "has failed the tests", false},
	"another version":      {[]string{"200 {}", `400 {"errors":["if_version: is 7, but default has version 8 now"]}`}, "refuses smvm/rollback/default (400): if_version: is 7, but default has version 8 now", true},
	"another secret id":    {[]string{`400 {"errors":["invalid role or secret ID"]}`}, "refuses auth/approle/login (400): invalid role or secret ID", true},
	"a page":               {[]string{"404 <html>"}, "refuses auth/approle/login (404)", true},
	"no answer for long":   {[]string{"500 {}"}, "has not rolled it back within 1 s", true},
}

// TestTestedOddAnswers has tested.sh ask again where that can help, and otherwise say
// what Vault says. A proxy that the environment names sees no login.
func TestTestedOddAnswers(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy is asked") }))
	t.Cleanup(proxy.Close)
	for name, test := range oddToTested {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vault := newAnswering(t, test.answers)
			timeout := "60"
			if strings.Contains(test.says, "within 1 s") {
				timeout = "1"
			}
			out, err := tested(t, []string{"VAULT_ADDR=" + vault.URL, "http_proxy=" + proxy.URL, "all_proxy=" + proxy.URL, "no_proxy="}, "-timeout", timeout, "smvm/creds/default", "7", "exit-code", "exited", "1")
			if (err != nil) != test.fails || !strings.Contains(string(out), test.says) {
				t.Errorf("%v: it says %s, want %q", err, out, test.says)
			}
			if last := vault.last(); !test.fails && (last["if_version"] != float64(7) || !strings.HasSuffix(fmt.Sprint(last["reason"]), " of version 7: exit-code exited 1")) {
				t.Errorf("it sent %v", last)
			}
		})
	}
}

// TestTestedAsksNothing has tests that passed, and arguments that name no version.
func TestTestedAsksNothing(t *testing.T) {
	vault := newAnswering(t, []string{"200 {}"})
	for _, args := range [][]string{
		{"smvm/creds/default", "7", "success", "exited", "0"},
		{"smvm/creds/default", "", "exit-code", "exited", "1"},
		{"smvm/creds/default", "0", "exit-code"},
		{"smvm/creds/default", "7"},
		{"smvm/default", "7", "timeout"},
	} {
		out, err := tested(t, []string{"VAULT_ADDR=" + vault.URL}, args...)
		if passed := slices.Contains(args, "success"); (err == nil) != passed || passed != strings.Contains(string(out), "version 7 of smvm/creds/default has passed the tests, and stays") {
			t.Errorf("%q: %v, %s", args, err, out)
		}
	}
	if last := vault.last(); last != nil {
		t.Errorf("it sent %v", last)
	}
}

// answering is a Vault that answers what it is told to.
type answering struct {
	*httptest.Server
	mu   sync.Mutex
	body map[string]any
}

func newAnswering(t *testing.T, answers []string) *answering {
	t.Helper()
	a := &answering{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.body = nil
		if err := json.NewDecoder(r.Body).Decode(&a.body); err != nil {
			t.Errorf("%s: %v", r.URL, err)
		}
		code, body, _ := strings.Cut(answers[0], " ")
		status, _ := strconv.Atoi(code)
		if len(answers) > 1 {
			answers = answers[1:]
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}))
	t.Cleanup(a.Close)
	return a
}

// last is what the latest request has sent.
func (a *answering) last() map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.body
}

// tested runs tested.sh with a login.
func tested(t *testing.T, env []string, args ...string) ([]byte, error) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"role_id", "secret_id"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "apps/agent/tested.sh", append([]string{"-dir", dir}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	return cmd.CombinedOutput()
}
