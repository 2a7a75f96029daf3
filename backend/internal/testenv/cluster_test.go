package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCluster shares one cluster: each case leaves it whole. A node that has
// stepped down may be elected within ten seconds and then does nothing until
// they are over, so that case comes after the others.
func TestCluster(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	c := &cluster{Cluster: NewCluster(t, ClusterOptions{Partitionable: true})}
	t.Logf("a cluster is up: %s", since(begun))
	ctx := t.Context()
	must(t, c.RegisterPlugin(ctx, NewPlugin(t), ""))
	must(t, c.Enable(ctx, "smvm", ""))
	for _, test := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"formed", testFormed},
		{"plugins paused", testPausePlugins},
		{"server paused", testPauseServer},
		{"isolated", testIsolate},
		{"standby disconnected", testDisconnectStandby},
		{"disconnected", testDisconnect},
		{"paused", testPause},
		{"killed", testKill},
		{"sealed", testSeal},
		{"restored", testRestore},
		{"stepped down", testStepDown},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Cleanup(func() { c.mend(t) })
			test.run(t, c)
			must(t, c.Settle(t.Context()))
		})
	}
}

// mend ends what a case that failed has left to the next: a partition, a node that
// is paused, sealed or down.
func (c *cluster) mend(t *testing.T) {
	if !t.Failed() {
		return
	}
	err := errors.Join(c.Heal(), c.each(func(v *Vault) error {
		ctx := context.WithoutCancel(t.Context())
		if v.PID() == 0 {
			return v.Start(ctx)
		}
		return errors.Join(v.Continue(), v.Unseal(ctx))
	}))
	if err != nil {
		t.Log(err)
	}
}

// cluster is a Cluster that tests write to.
type cluster struct {
	*Cluster
	writes int
}

// keep writes something new through the active node and checks that it can be
// read through every node.
func (c *cluster) keep(t *testing.T) {
	t.Helper()
	client, err := c.ActiveClient(t.Context())
	must(t, err)
	c.writes++
	value := fmt.Sprintf("value %d", c.writes)
	_, err = client.Logical().WriteWithContext(t.Context(), "cubbyhole/kept", map[string]any{"key": value})
	must(t, err)
	for _, v := range c.Nodes {
		kept, err := v.Client.Logical().ReadWithContext(t.Context(), "cubbyhole/kept")
		if err != nil || kept == nil || kept.Data["key"] != value {
			t.Errorf("%s has %v (%v), want %s", v.ID, kept, err, value)
		}
	}
}

// failOver makes the active node fail, waits for another to take over, and
// checks that the plugin works there.
func (c *cluster) failOver(t *testing.T, fail func(*Vault) error) (old, active *Vault) {
	t.Helper()
	old, err := c.Active(t.Context())
	must(t, err)
	begun := time.Now()
	must(t, fail(old))
	active, err = c.ActiveOtherThan(t.Context(), old)
	must(t, err)
	t.Logf("%s took over after %s", active.ID, since(begun))
	pluginPID(t, active)
	return old, active
}

// recover waits until the cluster is whole and keeps what is written.
func (c *cluster) recover(t *testing.T) {
	t.Helper()
	begun := time.Now()
	must(t, c.Settle(t.Context()))
	t.Logf("whole again after %s", since(begun))
	c.keep(t)
}

func since(begun time.Time) time.Duration { return time.Since(begun).Round(10 * time.Millisecond) }

func testFormed(t *testing.T, c *cluster) {
	active, err := c.Active(t.Context())
	must(t, err)
	standbys, err := c.Standbys(t.Context())
	must(t, err)
	voters, err := active.voters(t.Context())
	must(t, err)
	if len(c.Nodes) != 3 || len(standbys) != 2 || len(voters) != 3 {
		t.Errorf("%d nodes, %d standbys, voters %v", len(c.Nodes), len(standbys), voters)
	}
	c.keep(t)
	if waits := strings.Join(active.waits(t.Context()), "\n"); !strings.Contains(waits, "(*Core).waitForLeadership < ") {
		t.Errorf("of what the active node waits for it is said:\n%s", waits)
	}
	binary, err := os.ReadFile(filepath.Join(active.PluginDir, PluginName))
	must(t, err)
	for _, v := range c.Nodes {
		got, err := os.ReadFile(filepath.Join(v.PluginDir, PluginName))
		if err != nil || !bytes.Equal(got, binary) {
			t.Errorf("%s has another plugin (%v)", v.ID, err)
		}
		audit, err := os.ReadFile(v.AuditLogPath)
		if logged := bytes.Contains(audit, []byte("cubbyhole/kept")); logged != (v == active) {
			t.Errorf("%s has the request in its audit log: %t (%v)", v.ID, logged, err)
		}
	}
}

func testPausePlugins(t *testing.T, c *cluster) {
	active, err := c.Active(t.Context())
	must(t, err)
	pluginPID(t, active)
	must(t, active.PausePlugins())
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if _, err := active.Client.HelpWithContext(ctx, "smvm"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused plugin answers: %v", err)
	}
	if now, err := c.Active(t.Context()); err != nil || now != active {
		t.Errorf("the active node is %v (%v)", now, err)
	}
	must(t, active.ContinuePlugins())
	pluginPID(t, active)
}

func testPauseServer(t *testing.T, c *cluster) {
	active, err := c.Active(t.Context())
	must(t, err)
	plugin := pluginPID(t, active)
	must(t, active.PauseServer())
	if !stopped(active.PID()) || stopped(plugin) || active.answering() {
		t.Error("it is not the server alone that is paused")
	}
	must(t, active.ContinueServer())
	if stopped(active.PID()) {
		t.Error("the server is still paused")
	}
}

func testPause(t *testing.T, c *cluster) {
	var plugin int
	old, _ := c.failOver(t, func(v *Vault) error {
		plugin = pluginPID(t, v)
		return v.Pause()
	})
	if !stopped(old.PID()) || !stopped(plugin) {
		t.Error("the server or its plugin is not paused")
	}
	must(t, old.Continue())
	c.recover(t)
	must(t, waitGone([]int{plugin})) // a standby runs none
}

func testKill(t *testing.T, c *cluster) {
	old, _ := c.failOver(t, (*Vault).Kill)
	must(t, old.Start(t.Context()))
	c.recover(t)
}

func testSeal(t *testing.T, c *cluster) {
	var hung bool
	old, _ := c.failOver(t, func(v *Vault) (err error) {
		hung, err = v.SealOrKill(t.Context())
		return err
	})
	t.Logf("raft hung while it was sealed: %t", hung)
	checkReport(t, c, old)
	must(t, old.Return(t.Context()))
	c.recover(t)
}

// checkReport expects that who waits for the whole cluster is told of a node that is
// sealed, or was killed for that, and what the others say.
func checkReport(t *testing.T, c *cluster, down *Vault) {
	t.Helper()
	var wants []string
	for _, v := range c.Nodes {
		switch {
		case v != down:
			wants = append(wants, v.ID+": unsealed, follows ")
		case v.answering():
			wants = append(wants, v.ID+": sealed\n")
		default:
			wants = append(wants, v.ID+": it does not run")
		}
	}
	wants = append(wants, "voters [smvm-1 smvm-2 smvm-3]", "storage.raft: ")
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	must(t, Eventually(ctx, "a whole report", func(ctx context.Context) error {
		brief, cancel := context.WithTimeout(ctx, soon)
		defer cancel()
		err := c.Settle(brief)
		for _, want := range wants {
			if err == nil || !strings.Contains(err.Error(), want) {
				return fmt.Errorf("it lacks %q: %w", want, err)
			}
		}
		return nil
	}))
}

func testStepDown(t *testing.T, c *cluster) {
	c.failOver(t, func(*Vault) error {
		_, err := c.StepDown(t.Context())
		return err
	})
	c.recover(t)
}

func testRestore(t *testing.T, c *cluster) {
	c.keep(t)
	snapshot, err := c.Snapshot(t.Context())
	must(t, err)
	c.keep(t)
	active, err := c.Active(t.Context())
	must(t, err)
	plugin := pluginPID(t, active)
	begun := time.Now()
	must(t, c.Restore(t.Context(), snapshot))
	t.Logf("restored after %s", since(begun))
	client, err := c.ActiveClient(t.Context())
	must(t, err)
	kept, err := client.Logical().ReadWithContext(t.Context(), "cubbyhole/kept")
	if want := fmt.Sprintf("value %d", c.writes-1); err != nil || kept == nil || kept.Data["key"] != want {
		t.Errorf("got %v (%v), want %s", kept, err, want)
	}
	if pluginPID(t, active) == plugin {
		t.Error("the plugin lived on")
	}
	c.recover(t)
}

func TestClusterStartError(t *testing.T) {
	t.Parallel()
	_, err := StartCluster(t.Context(), ClusterOptions{Nodes: 2, Config: `seal "nonsense" {}`})
	if err == nil {
		t.Error("it started")
	}
}

func TestClusterStopLeavesNothing(t *testing.T) {
	t.Parallel()
	c, err := StartCluster(t.Context(), ClusterOptions{Nodes: 1})
	must(t, err)
	v := c.Nodes[0]
	must(t, v.Pause())
	pids := []int{v.PID(), v.scratch.watcher.Process.Pid}
	if err := c.Isolate(v); err == nil {
		t.Error("it can be isolated, but is not Partitionable")
	}
	must(t, c.Stop())
	must(t, c.Stop())
	checkGone(t, pids, v.scratch.dir)
}
