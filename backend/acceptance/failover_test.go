package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/notify"
)

// takeover bounds how long after the death of the active node the next one has
// gone on with what it finds.
const takeover = 30 * time.Second

// watchPeriod is how long the application is watched after a rotation.
const watchPeriod = 30 * time.Second

// TestNodeDiesInWatch rotates to a login that the application cannot use, and kills
// the active one of three nodes in the middle of the watch, between the delivery of
// an alert and the note that it was delivered. The next node tells it again, with
// the same id, goes on with the watch, and rolls back by itself.
func TestNodeDiesInWatch(t *testing.T) {
	t.Parallel()
	c, e, points := newClusterEngine(t)
	e.served("alternating_users", map[string]any{"rotation_period": "24h", "overlap": "10m", "refresh_interval": "1s"})
	s := e.serviceInOwnDatabase()
	alertmanager := e.alertmanager((&pager{}).listen(t))
	told := newHook(t)
	e.write("alerts/ops", map[string]any{"type": "alertmanager", "url": alertmanager})
	e.write("alerts/hook", map[string]any{"type": "webhook", "url": told.URL})
	e.write("checks/default/health", map[string]any{
		"url": "http://" + s.address + "/health", "attempts": 12, "interval": 1, "watch_period": watchPeriod.String(),
	})
	before := e.creds()
	if err := os.WriteFile(filepath.Join(points, "alert-hook.cursor.before"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	answer := e.write("rotate", map[string]any{"wait": 0, "reason": "quarterly rotation"})
	e.eventually("the application to suffer", time.Minute, func(context.Context) error { return s.sick() })
	e.eventually("an alert that was delivered and not noted", time.Minute, func(context.Context) error {
		_, err := os.Stat(filepath.Join(points, "alert-hook.cursor.before.reached"))
		return err
	})
	if following := e.read("status")["following"]; following == nil {
		t.Fatal("the application is not watched any more: the node has to be killed before that")
	}
	next, struck := e.killActive(c)
	e.rolledBack(s, before, struck)
	if took := time.Since(struck); took > watchPeriod+takeover {
		t.Errorf("it took %s", took)
	}
	e.toldOfRollback(text(answer, "rotation_id"), next)
	e.firing(alertmanager, "rotation_started", "application_degraded", "rotation_rolled_back")
	told.again(t, "rotation_started", "application_degraded", "rotation_rolled_back")
}

// newClusterEngine mounts the plugin in a cluster of its own, and can stop it at
// the points of backend/failpoints.go by files in a directory. The engine is asked
// through a standby, so that it can be asked whichever node is active.
func newClusterEngine(t *testing.T) (*testenv.Cluster, *engine, string) {
	t.Helper()
	binary, err := testenv.BuildPlugin(t.Context(), testenv.BuildOptions{Race: true, Tags: "failpoints"})
	if err != nil {
		t.Fatal(err)
	}
	points := t.TempDir()
	c := testenv.NewCluster(t, testenv.ClusterOptions{})
	if err := c.RegisterPluginWithEnv(t.Context(), binary, "SMVM_BREAKPOINTS="+points); err != nil {
		t.Fatal(err)
	}
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: talkative})
	for _, node := range c.Nodes {
		inspectAfter(t, node, pg)
	}
	standbys, err := c.Standbys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c, mount(t, standbys[0], pg), points
}

// serviceInOwnDatabase starts smvm-api on a database that the second user has been
// forgotten for: the engine's own tests cannot know of it.
func (e *engine) serviceInOwnDatabase() *service {
	e.Helper()
	database := e.prefix + "_app"
	e.sql("CREATE DATABASE {p}_app", "REVOKE CONNECT ON DATABASE {p}_app FROM PUBLIC", "GRANT CONNECT ON DATABASE {p}_app TO {p}_a")
	if err := e.postgres.ExecIn(e.Context(), database, "CREATE SCHEMA "+e.prefix+" AUTHORIZATION "+e.user("owner")); err != nil {
		e.Fatal(err)
	}
	s := e.approleService("-database", "postgres://"+e.postgres.Address()+"/"+database+"?sslmode=disable")
	if err := s.sick(); err == nil {
		e.Fatal("the application suffers before anything was done")
	}
	return s
}

// sick returns an error unless the service says that it is not well.
func (s *service) sick() error {
	if _, err := s.try(http.MethodGet, "/health", "", ""); err == nil || !strings.Contains(err.Error(), "503") {
		return fmt.Errorf("its health is: %w", errors.Join(err, errors.New("not 503")))
	}
	return nil
}

// killActive ends the active node as the loss of its machine would, and returns the
// one that takes over.
func (e *engine) killActive(c *testenv.Cluster) (next *testenv.Vault, struck time.Time) {
	e.Helper()
	active, err := c.Active(e.Context())
	if err != nil {
		e.Fatal(err)
	}
	struck = time.Now()
	if err := active.Kill(); err != nil {
		e.Fatal(err)
	}
	if next, err = c.ActiveOtherThan(e.Context(), active); err != nil {
		e.Fatal(err)
	}
	e.Logf("%s took over after %s", next.ID, time.Since(struck).Round(time.Millisecond))
	return next, struck
}

// rolledBack waits until the application works again, on the values of before.
func (e *engine) rolledBack(s *service, before map[string]any, struck time.Time) {
	e.Helper()
	var after map[string]any
	e.eventually("the rollback", watchPeriod+takeover, func(ctx context.Context) error {
		resp, err := e.client.Logical().ReadWithContext(ctx, e.path+"/creds")
		if err != nil {
			return err
		}
		if after = resp.Data; after["db_password"] != before["db_password"] {
			return fmt.Errorf("readers get version %v", after["version"])
		}
		return nil
	})
	e.Logf("rolled back %s after the node was killed", time.Since(struck).Round(time.Millisecond))
	e.works(after)
	e.reaches(s, number(e.T, after, "version"), time.Minute)
	for header, value := range map[string]string{"X-API-Key": text(after, "api_key"), "Authorization": "Bearer " + e.signed(after)} {
		if _, err := s.try(http.MethodPost, "/api/test", header, value); err != nil {
			e.Errorf("with its %s the application answers: %v", header, err)
		}
	}
}

// toldOfRollback checks that the history tells the story, and who did it.
func (e *engine) toldOfRollback(rotation string, by *testenv.Vault) {
	e.Helper()
	records := e.history()
	at := slices.IndexFunc(records, func(rec map[string]any) bool { return rec["kind"] == "rollback" })
	if at < 1 {
		e.Fatalf("the history has no rollback: %v", records)
	}
	back := records[at]
	if reason := text(back, "reason"); back["trigger"] != "check" || back["outcome"] != "completed" || back["follows"] != rotation ||
		!strings.Contains(reason, "check/health") || !strings.Contains(reason, "status 503") {
		e.Errorf("the record of the rollback is %v", back)
	}
	if rotated := records[at-1]; rotated["rotation_id"] != rotation || rotated["reason"] != "quarterly rotation" {
		e.Errorf("the record before it is %v", rotated)
	}
	e.eventually(by.ID+" to log that it rolled back", 10*time.Second, func(context.Context) error {
		log, err := os.ReadFile(by.LogPath)
		if err == nil && !strings.Contains(string(log), "rotation_id="+text(back, "rotation_id")) {
			err = errors.New("it does not say so")
		}
		return err
	})
	record := text(e.read("history/default/"+text(back, "rotation_id"), "format", "markdown"), "markdown")
	for _, words := range []string{"Operation: rollback", "Role: default", "Outcome: ✅ completed", "Trigger: check", "Performed by: the engine", "status 503"} {
		if !strings.Contains(record, words) {
			e.Errorf("the record lacks %q:\n%s", words, record)
		}
	}
}

// hook is a webhook that keeps what it is told.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	events []notify.Event
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e notify.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || e.ID != r.Header.Get("X-Smvm-Event-Id") {
			t.Errorf("what was told is no event, or has another id: %v", err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.events = append(h.events, e)
	}))
	t.Cleanup(h.Close)
	return h
}

// again checks that the first of these events was told twice with one id, and that
// all of them were told in this order.
func (h *hook) again(t *testing.T, names ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	want := append([]string{names[0]}, names...)
	err := testenv.Eventually(ctx, "the events "+strings.Join(want, ", "), func(context.Context) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		var have []string
		for _, e := range h.events {
			have = append(have, e.Event)
		}
		if len(have) < len(want) || !slices.Equal(have[:len(want)], want) {
			return fmt.Errorf("they are %v", have)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if first, repeated := h.events[0], h.events[1]; first.ID == "" || first.ID != repeated.ID {
		t.Errorf("told again, %s has the id %q, and had %q", first.Event, repeated.ID, first.ID)
	}
}
