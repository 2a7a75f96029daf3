package backend

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// manager is an Alertmanager, which forgets what it was told when it restarts.
type manager struct {
	*mount
	address string
	program *testenv.Program
	late    *atomic.Bool // whether somebody needs previous values
}

// alertmanager starts one, and has it told everything.
func (m *mount) alertmanager() *manager {
	m.Helper()
	address, err := testenv.FreeAddress(m.Context())
	if err != nil {
		m.Fatal(err)
	}
	a := &manager{mount: m, address: address}
	a.start()
	m.Cleanup(func() { _ = a.program.Stop() })
	m.write("alerts/am", d("type", "alertmanager", "url", "http://"+a.address))
	return a
}

func (a *manager) start() {
	a.Helper()
	dir := a.TempDir()
	file := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(file, []byte("route: { receiver: nobody }\nreceivers: [ { name: nobody } ]\n"), 0o600); err != nil {
		a.Fatal(err)
	}
	a.program = testenv.NewProgram(a.T, nil, "prometheus-alertmanager", "--config.file="+file, "--storage.path="+dir,
		"--web.listen-address="+a.address, "--cluster.listen-address=")
	a.eventually("the Alertmanager", func() bool {
		resp, err := a.get("/-/ready")
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
}

// restart makes it forget: it starts over an empty directory.
func (a *manager) restart() {
	a.Helper()
	if err := a.program.Stop(); err != nil {
		a.Fatal(err)
	}
	a.start()
}

func (a *manager) get(path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(a.Context(), http.MethodGet, "http://"+a.address+path, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(req)
}

// active are the names of the alerts that it has and that are not resolved, but for
// those that only inform.
func (a *manager) active() []string {
	a.Helper()
	resp, err := a.get("/api/v2/alerts")
	if err != nil {
		a.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	var alerts []struct{ Labels map[string]string }
	if err := json.NewDecoder(resp.Body).Decode(&alerts); err != nil {
		a.Fatal(err)
	}
	var names []string
	for _, alert := range alerts {
		if name := alert.Labels["alertname"]; !slices.Contains([]string{"rotation_started", "rotation_completed", "destination_restored"}, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// shows waits until it has exactly these, while Vault's timer goes on.
func (a *manager) shows(want ...string) {
	a.Helper()
	slices.Sort(want)
	have, asked := []string(nil), 0
	defer func() {
		if a.Failed() {
			a.Errorf("it has %v", have)
		}
	}()
	a.eventually("the alerts "+strings.Join(want, ", "), func() bool {
		if asked++; asked%20 == 1 { // a day of minutes would be over soon
			a.tick(time.Minute)
		}
		have = a.active()
		return slices.Equal(have, want)
	})
}

// TestConditionsLast brings about each thing that lasts: an Alertmanager that forgets it
// is told again, also by another process, and that it is over.
func TestConditionsLast(t *testing.T) {
	for name, c := range map[string]struct {
		shown  []string
		begin  func(a *manager, broken func(error))
		finish map[string]func(a *manager, broken func(error))
	}{
		"needs attention": {
			[]string{"needs_attention", "rotation_failed", "rotation_overdue"},
			func(a *manager, broken func(error)) {
				broken(errors.New("no entropy"))
				a.tick(24 * time.Hour)
				a.eventually("the failures", func() bool { a.tick(time.Minute); return a.read("status", nil)["needs_attention"] == true })
			},
			map[string]func(a *manager, broken func(error)){
				"rotated": func(a *manager, broken func(error)) { broken(nil); a.write("rotate", nil) },
				"deleted": func(a *manager, _ func(error)) { a.deleteRole("default") },
			},
		},
		"overlap waiting": {
			[]string{"overlap_waiting"},
			func(a *manager, _ func(error)) {
				a.write("roles/default", d("overlap", "1h", "overlap_limit", "20h"))
				a.write("rotate", nil)
				a.tick(time.Hour)
			},
			map[string]func(a *manager, broken func(error)){
				"read":    func(a *manager, _ func(error)) { a.late.Store(false) },
				"by hand": func(a *manager, _ func(error)) { a.write("retire", d("force", true)) },
			},
		},
		"due soon": {
			[]string{"rotation_due_soon"},
			func(a *manager, _ func(error)) {
				a.write("roles/default", d("rotation_period", "720h"))
				a.tick(720*time.Hour - 48*time.Hour)
			},
			map[string]func(a *manager, broken func(error)){
				"put off":     func(a *manager, _ func(error)) { a.write("roles/default", d("rotation_period", "1440h")) },
				"not by time": func(a *manager, _ func(error)) { a.write("roles/default", d("auto_rotate", false)) },
			},
		},
		"destination failed": {
			[]string{"destination_failed"},
			func(a *manager, _ func(error)) {
				a.listed("127.0.0.1")
				a.write("destinations/hook", d("type", "webhook", "url", "http://127.0.0.1:1", "key", "0123456789abcdef", "allowed_roles", "*", "verify", false, "values", "x={{pin_value}}"))
				a.write("roles/default", d("destinations", "hook"))
			},
			map[string]func(a *manager, broken func(error)){
				"taken away": func(a *manager, _ func(error)) { a.write("roles/default", d("destinations", "")) },
				"mended": func(a *manager, _ func(error)) {
					app := newApplication(a.T)
					a.write("destinations/hook", d("url", app.URL, "key", "0123456789abcdef", "verify", false))
				},
			},
		},
		"retired value accepted": {
			[]string{"retired_value_accepted"},
			func(a *manager, _ func(error)) {
				a.listed("127.0.0.1")
				a.write("secrets/default/api", d("type", "api_key"))
				a.write("checks/default/old-key", d("phase", "retire", "url", newApplication(a.T).URL, "headers", "X-API-Key: {{api_previous_key}}", "attempts", 1, "timeout", 30))
				a.write("rotate", d("revoke_previous", true))
			},
			map[string]func(a *manager, broken func(error)){
				"rotated": func(a *manager, _ func(error)) { a.delete("checks/default/old-key"); a.write("rotate", nil) },
			},
		},
	} {
		for end, finish := range c.finish {
			t.Run(name+", "+end, func(t *testing.T) {
				m := unbooted(t)
				late := &atomic.Bool{}
				late.Store(true)
				m.dependents = func(*rotation.Role, *rotation.Secret) []string {
					if late.Load() {
						return []string{"instance-1"}
					}
					return nil
				}
				m.boot()
				broken := m.breakable("fragile")
				m.write("roles/default", d("rotation_period", "24h", "max_retries", 1))
				m.write("secrets/default/pin", d("type", "random", "password_policy", "fragile"))
				m.clock.advance(time.Second)
				a := m.alertmanager()
				a.late = late
				c.begin(a, broken)
				a.shows(c.shown...)
				a.restart()
				a.shows(c.shown...)
				a.boot()
				a.restart()
				a.shows(c.shown...)
				finish(a, broken)
				if end == "deleted" { // which is told as well
					a.shows("deleted")
				} else {
					a.shows()
				}
			})
		}
	}
}
