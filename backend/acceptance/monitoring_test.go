package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestMonitoringKit checks what is shipped with the tools that read it, which
// scripts/get-prometheus.sh installs.
func TestMonitoringKit(t *testing.T) {
	t.Parallel()
	kit := kitDir(t)
	for _, args := range [][]string{
		{"promtool", "check", "config", "--syntax-only", "prometheus.yml"},
		{"promtool", "check", "rules", "smvm-rules.yml"},
		{"promtool", "test", "rules", "smvm-rules-test.yml"},
		{"amtool", "check-config", "alertmanager.yml"},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...) //nolint:gosec // the tools of scripts/get-prometheus.sh
		cmd.Dir = kit
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

func kitDir(t *testing.T) string {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "bootstrap", "operate", "monitoring")
}

// TestSickApplication rotates while Prometheus scrapes the engine and an
// Alertmanager listens: the application does not take the new key, the role goes
// back by itself, and whoever is on call hears of it from both.
func TestSickApplication(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	called := &pager{}
	alertmanager := e.alertmanager(called.listen(t))
	prometheus := e.prometheus(alertmanager)
	e.orders("alternating_users", map[string]any{"rotation_period": "24h"})
	const reversals = "smvm_operations_total{kind=\"rollback\",trigger=\"check\",outcome=\"completed\"}"
	e.measures(prometheus, reversals, "0")
	app := newKeyed(t)
	app.accept(e.creds()["api_key"])
	e.listed()
	e.write("alerts/ops", map[string]any{"type": "alertmanager", "url": alertmanager})
	e.write("checks/default/key", map[string]any{
		"url": app.URL, "headers": "X-API-Key: {{api_key}}", "attempts": 2, "interval": 1,
	})
	before := e.creds()
	if cause := e.refused(unprocessable, "rotate", map[string]any{"wait": 30}); !strings.Contains(cause, "check/key") || !strings.Contains(cause, "status 401") {
		t.Errorf("the rotation was refused with %s", cause)
	}
	after := e.creds()
	e.works(after)
	if after["api_key"] != before["api_key"] || app.ask(after["api_key"]) != http.StatusOK {
		t.Error("the application is not back on a key that works")
	}
	if !slices.ContainsFunc(e.history(), func(rec map[string]any) bool {
		return rec["kind"] == "rollback" && rec["trigger"] == "check" && strings.Contains(fmt.Sprint(rec["reason"]), "status 401")
	}) {
		t.Errorf("the history does not tell why: %v", e.history())
	}
	e.firing(alertmanager, "rotation_started", "application_degraded", "rotation_rolled_back", "SmvmRotationRolledBack")
	e.measures(prometheus, reversals, "1")
	e.eventually("the call of whoever is on call", 90*time.Second, func(context.Context) error { return called.about("rotation_rolled_back") })
}

// measures waits until Prometheus has that value.
func (e *engine) measures(prometheus, query, want string) {
	e.Helper()
	e.eventually(query+" to be "+want, time.Minute, func(context.Context) error {
		var answer struct {
			Data struct{ Result []struct{ Value [2]any } }
		}
		e.fetch(prometheus+"/api/v1/query?query="+url.QueryEscape(query), &answer)
		if len(answer.Data.Result) != 1 || answer.Data.Result[0].Value[1] != want {
			return fmt.Errorf("it is %v", answer.Data.Result)
		}
		return nil
	})
}

// pager is what an Alertmanager calls.
type pager struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *pager) listen(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		_, _ = p.text.ReadFrom(r.Body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// about returns an error unless somebody was called about that.
func (p *pager) about(alert string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !bytes.Contains(p.text.Bytes(), []byte(`"alertname":"`+alert+`"`)) {
		return fmt.Errorf("nobody was called about %s", alert)
	}
	return nil
}

// firing waits until an Alertmanager has these alerts of the engine.
func (e *engine) firing(alertmanager string, names ...string) {
	e.Helper()
	e.eventually("the alerts "+strings.Join(names, ", "), 90*time.Second, func(context.Context) error {
		var alerts []struct{ Labels map[string]string }
		e.fetch(alertmanager+"/api/v2/alerts", &alerts)
		var have []string
		for _, a := range alerts {
			have = append(have, a.Labels["alertname"])
		}
		for _, name := range names {
			if !slices.Contains(have, name) {
				return fmt.Errorf("it has only %v", have)
			}
		}
		return nil
	})
}

func (e *engine) fetch(address string, into any) {
	e.Helper()
	req, err := http.NewRequestWithContext(e.Context(), http.MethodGet, address, nil)
	if err != nil {
		e.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		e.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		e.Fatalf("%s: %v", address, err)
	}
}

// alertmanager starts Debian's, with the configuration that is shipped but for the
// addresses, which are called's.
func (e *engine) alertmanager(called string) string {
	e.Helper()
	shipped, err := os.ReadFile(filepath.Join(kitDir(e.T), "alertmanager.yml"))
	if err != nil {
		e.Fatal(err)
	}
	dir, address := e.TempDir(), freeAddress(e.T)
	file := filepath.Join(dir, "alertmanager.yml")
	config := regexp.MustCompile(`https://[a-z.]+`).ReplaceAll(shipped, []byte(called))
	config = bytes.Replace(config, []byte("route:\n"), []byte("route:\n  group_wait: 1s\n"), 1)
	if err := os.WriteFile(file, config, 0o600); err != nil {
		e.Fatal(err)
	}
	e.start(address, "/-/ready", "prometheus-alertmanager", "--config.file="+file,
		"--storage.path="+dir, "--web.listen-address="+address, "--cluster.listen-address=")
	return "http://" + address
}

// prometheus starts Debian's, with the rules that are shipped, and a token of the
// policy that is shipped.
func (e *engine) prometheus(alertmanager string) string {
	e.Helper()
	dir, address := e.TempDir(), freeAddress(e.T)
	name := "monitoring-" + e.prefix
	if err := e.vault.Client.Sys().PutPolicyWithContext(e.Context(), name, strings.ReplaceAll(e.policy("monitoring"), `"smvm/`, `"`+e.path+"/")); err != nil {
		e.Fatal(err)
	}
	token, err := e.vault.Client.Auth().Token().CreateWithContext(e.Context(), &api.TokenCreateRequest{Policies: []string{name}, NoParent: true})
	if err != nil {
		e.Fatal(err)
	}
	remember(token.Auth.ClientToken)
	config := fmt.Sprintf(`
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [%q]
scrape_configs:
  - job_name: smvm
    metrics_path: /v1/%s/metrics
    authorization: { type: Bearer, credentials_file: %q }
    static_configs: [{ targets: [%q] }]
alerting: { alertmanagers: [{ static_configs: [{ targets: [%q] }] }] }
`, filepath.Join(kitDir(e.T), "smvm-rules.yml"), e.path, filepath.Join(dir, "token"), strings.TrimPrefix(e.client.Address(), "http://"), strings.TrimPrefix(alertmanager, "http://"))
	for file, text := range map[string]string{"token": token.Auth.ClientToken, "prometheus.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			e.Fatal(err)
		}
	}
	e.start(address, "/-/ready", "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	return "http://" + address
}

// start runs a tool until the end of the test, and waits until it is ready.
func (e *engine) start(address, ready, tool string, args ...string) {
	e.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(e.Context()), tool, args...) //nolint:gosec // those of scripts/get-prometheus.sh
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if e.Failed() {
			e.Logf("%s:\n%s", tool, out.String())
		}
	})
	e.eventually(tool+" to be ready", 30*time.Second, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+ready, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close() //nolint:errcheck // read only
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

// keyed is an application that takes one key.
type keyed struct {
	*httptest.Server
	t   *testing.T
	key atomic.Value
}

func newKeyed(t *testing.T) *keyed {
	k := &keyed{t: t}
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-API-Key") != k.key.Load() {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(k.Close)
	return k
}

func (k *keyed) accept(key any) { k.key.Store(key) }

// ask uses a key.
func (k *keyed) ask(key any) int {
	req, err := http.NewRequestWithContext(k.t.Context(), http.MethodGet, k.URL, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	req.Header.Set("X-API-Key", fmt.Sprint(key))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	return resp.StatusCode
}
