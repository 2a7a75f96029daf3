package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/notify"
)

// The mounts: the one whose roles are tested, and one that shares its process.
const (
	mountPath   = "smvm"
	siblingPath = "sibling"
)

// lab is a cluster with the plugin, and a PostgreSQL.
type lab struct {
	cluster  *testenv.Cluster
	postgres *testenv.Postgres
	// replica is what streams from postgres, if something does.
	replica *testenv.Postgres
	// library is what takes copies of values, once something does.
	library *library
	// outside is what else the engine sends to.
	outside *outside
	points  points
	// hung counts the nodes that did not end while they were sealed, though their
	// plugin had.
	hung int
}

// newLab starts everything.
func newLab(t *testing.T) *lab {
	t.Helper()
	ctx := t.Context()
	binary, err := testenv.BuildPlugin(ctx, testenv.BuildOptions{Race: true, Tags: "failpoints"})
	must(t, err)
	l := &lab{points: points{t.TempDir()}, outside: newOutside(t)}
	// Each role has a pool of its own there.
	l.postgres = testenv.NewPostgres(t, testenv.PostgresOptions{Settings: map[string]string{"max_connections": "400"}})
	t.Cleanup(func() { must(t, errors.Join(l.library.stop(), l.replica.Stop(), l.postgres.Stop())) })
	l.cluster = testenv.NewCluster(t, testenv.ClusterOptions{})
	t.Cleanup(func() {
		if err := l.logged(); err != nil {
			t.Error(err)
		}
	})
	must(t, l.cluster.RegisterPluginWithEnv(ctx, binary, "SMVM_BREAKPOINTS="+l.points.dir))
	for _, path := range []string{mountPath, siblingPath} {
		must(t, l.cluster.Enable(ctx, path, ""))
		client, err := l.client(ctx)
		must(t, err)
		_, err = client.Logical().WriteWithContext(ctx, path+"/config", map[string]any{
			"retry_interval": 1, "max_workers": 64, "outbound_hosts": "127.0.0.1",
		})
		must(t, err)
	}
	client, err := l.client(ctx)
	must(t, err)
	_, err = client.Logical().WriteWithContext(ctx, mountPath+"/alerts/told", map[string]any{
		"type": "webhook", "url": l.outside.URL + told, "events": notify.RetiredValueUsed,
	})
	must(t, err)
	return l
}

// client returns a client of the active node that asks once and does not wait.
func (l *lab) client(ctx context.Context) (*api.Client, error) {
	active, err := l.cluster.Active(ctx)
	if err != nil {
		return nil, err
	}
	client, err := active.Client.Clone()
	if err != nil {
		return nil, err
	}
	client.SetToken(l.cluster.RootToken)
	client.SetMaxRetries(0)
	client.SetClientTimeout(time.Minute)
	return client, nil
}

// activeSince returns when the active node became that, which is later if it was not
// meanwhile.
func (l *lab) activeSince(ctx context.Context) (time.Time, error) {
	client, err := l.client(ctx)
	if err != nil {
		return time.Time{}, err
	}
	leader, err := client.Sys().LeaderWithContext(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return leader.ActiveTime, nil
}

// configure writes the configuration of the mount whose roles are tested.
func (l *lab) configure(ctx context.Context, field string, value any) error {
	client, err := l.client(ctx)
	if err == nil {
		_, err = client.Logical().WriteWithContext(ctx, mountPath+"/config", map[string]any{field: value})
	}
	return err
}

// logged returns an error if a log has what must never be in one.
func (l *lab) logged() error {
	var errs []error
	for _, node := range l.cluster.Nodes {
		log, err := os.ReadFile(node.LogPath)
		errs = append(errs, err)
		for _, words := range []string{"DATA RACE", "panic:", "internal error in"} {
			if at := strings.Index(string(log), words); at >= 0 {
				errs = append(errs, fmt.Errorf("%s logged %q: %s", node.ID, words, log[at:min(len(log), at+3000)]))
			}
		}
	}
	return errors.Join(errs...)
}

// points is the control directory of the plugin's failpoints.
type points struct{ dir string }

func (p points) path(point string) string { return filepath.Join(p.dir, point) }

// arm makes whoever comes to the point next stop there.
func (p points) arm(point string) error { return os.WriteFile(p.path(point), nil, 0o600) }

// reached tells whether somebody stands, or stood, at the point.
func (p points) reached(point string) bool {
	_, err := os.Stat(p.path(point + ".reached"))
	return err == nil
}

// release lets go on who stands at the point.
func (p points) release(point string) error {
	return os.WriteFile(p.path(point+".go"), nil, 0o600)
}

// fail makes everything fail that comes to the point, until clear.
func (p points) fail(point string) error {
	return os.WriteFile(p.path(point+".fail"), nil, 0o600)
}

// clear removes the files of the point.
func (p points) clear(point string) error {
	var err error
	for _, suffix := range []string{"", ".reached", ".go", ".fail"} {
		if e := os.Remove(p.path(point + suffix)); !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
