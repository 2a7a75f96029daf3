package acceptance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestLateReaderIsKnownAfterFailover pauses one of three instances of a service, with its
// sessions in the database open. The overlap waits for it, also on the next active node,
// and ends when it has gone on. Later it is killed, and the overlap ends at its limit.
func TestLateReaderIsKnownAfterFailover(t *testing.T) {
	t.Parallel()
	c := testenv.NewCluster(t, testenv.ClusterOptions{})
	if err := c.RegisterPlugin(t.Context(), shared.plugin, ""); err != nil {
		t.Fatal(err)
	}
	for _, node := range c.Nodes {
		inspectAfter(t, node, shared.postgres)
	}
	standbys, err := c.Standbys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := mount(t, standbys[0], shared.postgres)
	e.served("alternating_users", map[string]any{"rotation_period": "24h", "overlap": "20s", "refresh_interval": "5s", "overlap_limit": "1h"})
	e.instance("one")
	e.instance("two")
	paused := e.instance("paused")
	if err := paused.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	before := storedUnder(t, c, "/readers/role/default")
	e.write("rotate", nil)
	e.late(2, paused)
	e.eventually("the readers to be stored", time.Minute, func(context.Context) error {
		if now := storedUnder(t, c, "/readers/role/default"); now == before {
			return errors.New("what is stored is as it was before the rotation")
		}
		return nil
	})
	old, err := c.StepDown(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ActiveOtherThan(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	e.late(2, paused)
	previous := func() map[string]any {
		stage, _ := e.read("status")["secrets"].(map[string]any)["db"].(map[string]any)["previous"].(map[string]any)
		return stage
	}
	// The next active node looks for sessions when Vault's timer ticks, once a minute.
	e.eventually("the overlap to go on", 3*time.Minute, func(context.Context) error {
		stage := previous()
		sessions, _ := stage["sessions"].(json.Number) // nil until the engine has looked
		if !strings.Contains(fmt.Sprint(stage["waits_for"]), paused.entity+", entity") || stage["valid"] != true || sessions == "" || sessions == "0" {
			return fmt.Errorf("the previous login is %v", stage)
		}
		return nil
	})
	if refused := e.refused(badRequest, "retire", nil); !strings.Contains(refused, "secret db: "+paused.entity+", entity") {
		e.Errorf("to retire the login is refused: %s", refused)
	}
	if err := paused.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	e.late(3)
	ended := func(context.Context) error {
		if stage := previous(); stage != nil {
			return fmt.Errorf("the previous login is %v", stage)
		}
		return nil
	}
	e.eventually("the overlap to end", time.Minute, ended)
	for _, record := range e.history() {
		if issues := fmt.Sprint(record["issues"]); strings.Contains(issues, "open sessions that the engine terminated") {
			e.Errorf("the instance was cut off: %s", issues)
		}
	}

	// Now it is gone for good.
	told := newHook(t)
	e.write("alerts/hook", map[string]any{"type": "webhook", "url": told.URL, "events": "overlap_waiting,overlap_limit_reached"})
	e.write("roles/default", map[string]any{"overlap": "10s", "overlap_limit": "25s"})
	if err := paused.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e.write("rotate", nil)
	e.eventually("the overlap to end at its limit", time.Minute, ended)
	e.eventually("the events of it", time.Minute, func(context.Context) error {
		return told.saidOf(paused.entity, "overlap_waiting", "overlap_limit_reached")
	})
}

// instance is a running smvm-api with a login of its own.
type instance struct {
	*service
	entity, roleID string
}

func (e *engine) instance(name string) *instance {
	e.Helper()
	roleIDFile, secretIDFile := e.loginOf(name)
	roleID, err := os.ReadFile(roleIDFile)
	if err != nil {
		e.Fatal(err)
	}
	return &instance{e.serviceOf(roleIDFile, secretIDFile), e.path + "-" + name, strings.TrimSpace(string(roleID))}
}

// late waits until status counts so many readers that are current, and names these, and
// no others, as late: a node that has just become active has to load them first.
func (e *engine) late(current int, want ...*instance) {
	e.Helper()
	e.eventually("status to say who is late", time.Minute, func(context.Context) error {
		readers := e.read("status")["readers"].(map[string]any)
		late := readers["late"].([]any)
		if number(e.T, readers, "current") != int64(current) || len(late) != len(want) {
			return fmt.Errorf("it says %v", readers)
		}
		for i, one := range want {
			got := late[i].(map[string]any)
			if got["name"] != "approle" || got["entity"] != one.entity || fmt.Sprint(got["aliases"]) != fmt.Sprintf("[%s (approle)]", one.roleID) || text(got, "address") == "" || text(got, "entity_id") == "" {
				return fmt.Errorf("it says %v of %s, whose role id is %s", got, one.entity, one.roleID)
			}
		}
		return nil
	})
}

// storedUnder returns the beginning of what the storage of a cluster has under the key that
// ends so, encrypted by Vault with a nonce: it is another one when it was stored again.
func storedUnder(t *testing.T, c *testenv.Cluster, end string) string {
	t.Helper()
	snapshot, err := c.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	packed, err := gzip.NewReader(bytes.NewReader(snapshot))
	if err != nil {
		t.Fatal(err)
	}
	for files := tar.NewReader(packed); ; {
		file, err := files.Next()
		if err != nil {
			t.Fatalf("look for the state in a snapshot: %v", err)
		}
		if file.Name != "state.bin" {
			continue
		}
		state, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		_, value, _ := bytes.Cut(state, []byte(end))
		return string(value[:min(len(value), 64)])
	}
}

// saidOf reports what is missing of these events in this order, each with that name in its
// message.
func (h *hook) saidOf(who string, names ...string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var have []string
	for _, e := range h.events {
		if strings.Contains(e.Message, who) {
			have = append(have, e.Event)
		}
	}
	if !slices.Equal(have, names) {
		return fmt.Errorf("of %s they are %v, of %d in all", who, have, len(h.events))
	}
	return nil
}
