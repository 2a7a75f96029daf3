package acceptance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestLateReaderIsKnownAfterFailover has three instances of a service, of which one stops
// reading. The next active node still says who it is, and goes on to wait for it.
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
	e.write("roles/default", map[string]any{"rotation_period": "24h", "overlap": "20s", "refresh_interval": "5s", "overlap_limit": "1h"})
	e.write("secrets/default/api", map[string]any{"type": "api_key"})
	one, two, stopped := e.instance("one"), e.instance("two"), e.instance("stopped")
	for _, each := range []*instance{one, two, stopped} {
		each.reads()
	}
	e.write("rotate", nil)
	one.reads()
	two.reads()
	e.late(2, stopped)
	e.eventually("the readers to be stored", time.Minute, func(ctx context.Context) error { return hasKey(ctx, c, "/readers/role/default") })
	old, err := c.StepDown(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ActiveOtherThan(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	one.reads()
	two.reads()
	e.late(2, stopped)
	previous := func() map[string]any {
		stage, _ := e.read("status")["secrets"].(map[string]any)["api"].(map[string]any)["previous"].(map[string]any)
		return stage
	}
	e.eventually("the overlap to go on", time.Minute, func(context.Context) error {
		if stage := previous(); !strings.Contains(fmt.Sprint(stage["waits_for"]), stopped.entity+", entity") || stage["valid"] != true {
			return fmt.Errorf("the previous key is %v", stage)
		}
		return nil
	})
	if refused := e.refused(badRequest, "retire", nil); !strings.Contains(refused, "cut off: secret api: "+stopped.entity+", entity") {
		e.Errorf("to retire the key is refused: %s", refused)
	}
	stopped.reads()
	e.late(3)
	ended := func(context.Context) error {
		if stage := previous(); stage != nil {
			return fmt.Errorf("the previous key is %v", stage)
		}
		return nil
	}
	e.eventually("the overlap to end", time.Minute, ended)

	// Now it is gone for good.
	told := newHook(t)
	e.write("alerts/hook", map[string]any{"type": "webhook", "url": told.URL, "events": "overlap_waiting,overlap_limit_reached"})
	e.write("roles/default", map[string]any{"overlap": "10s", "overlap_limit": "25s"})
	e.write("rotate", nil)
	one.reads()
	two.reads()
	e.eventually("the overlap to end at its limit", time.Minute, ended)
	e.eventually("the events of it", time.Minute, func(context.Context) error {
		return told.saidOf(stopped.entity, "overlap_waiting", "overlap_limit_reached")
	})
}

// instance is one with a login of its own.
type instance struct {
	*raw
	entity, roleID string
}

func (e *engine) instance(name string) *instance {
	e.Helper()
	dir := e.TempDir()
	if said, err := e.enroll(e.vault.RootToken, "-name", e.path, "-instance", name, "-dir", dir, "default"); err != nil {
		e.Fatalf("enroll: %v: %s", err, said)
	}
	login := map[string]any{}
	for _, file := range []string{"role_id", "secret_id"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			e.Fatal(err)
		}
		login[file] = strings.TrimSpace(string(text))
	}
	remember(fmt.Sprint(login["secret_id"]))
	made, err := e.vault.Client.Logical().WriteWithContext(e.Context(), "auth/approle/login", login)
	if err != nil {
		e.Fatal(err)
	}
	remember(made.Auth.ClientToken)
	r := e.raw()
	r.token = made.Auth.ClientToken
	return &instance{r, e.path + "-" + name, fmt.Sprint(login["role_id"])}
}

func (i *instance) reads() {
	i.Helper()
	if answer := i.do(http.MethodGet, "creds", nil); answer.status != http.StatusOK {
		i.Errorf("a reader gets %d: %s", answer.status, answer.cause())
	}
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

// hasKey returns an error unless the storage of a cluster has a key that ends so.
func hasKey(ctx context.Context, c *testenv.Cluster, end string) error {
	snapshot, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	packed, err := gzip.NewReader(bytes.NewReader(snapshot))
	if err != nil {
		return err
	}
	files := tar.NewReader(packed)
	for {
		switch file, err := files.Next(); {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("no key ends in %s", end)
		case err != nil:
			return err
		case file.Name == "state.bin":
			if state, err := io.ReadAll(files); err != nil || bytes.Contains(state, []byte(end)) {
				return err
			}
		}
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
