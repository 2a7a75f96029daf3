package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
)

// RegisterPlugin is Vault's RegisterPlugin on all nodes: each gets the binary,
// also one that is down, and the catalog they share names it once.
func (c *Cluster) RegisterPlugin(ctx context.Context, binary, version string) error {
	active, err := c.Active(ctx)
	if err != nil {
		return err
	}
	return registerPlugin(ctx, active, c.Nodes, binary, version)
}

// Enable is Vault's Enable on the active node.
func (c *Cluster) Enable(ctx context.Context, path, version string) error {
	active, err := c.Active(ctx)
	if err != nil {
		return err
	}
	return active.Enable(ctx, path, version)
}

// Snapshot returns a raft snapshot: all that Vault has stored.
func (c *Cluster) Snapshot(ctx context.Context) ([]byte, error) {
	active, err := c.Active(ctx)
	if err != nil {
		return nil, err
	}
	var snapshot bytes.Buffer
	if err := active.Client.Sys().RaftSnapshotWithContext(ctx, &snapshot); err != nil {
		return nil, fmt.Errorf("take snapshot: %w", err)
	}
	return snapshot.Bytes(), nil
}

// Restore puts back a snapshot of this cluster, by force as one restores after
// a disaster, and returns when the active node has it, which takes Vault five
// seconds at least. The plugins are started anew.
func (c *Cluster) Restore(ctx context.Context, snapshot []byte) error {
	active, err := c.Active(ctx)
	if err != nil {
		return err
	}
	// Vault answers before it has restored, so something must vanish.
	mark := "cubbyhole/before-restore-" + rand.Text()
	if _, err := active.Client.Logical().WriteWithContext(ctx, mark, map[string]any{"at": "now"}); err != nil {
		return fmt.Errorf("mark state before restore: %w", err)
	}
	if err := active.Client.Sys().RaftSnapshotRestoreWithContext(ctx, bytes.NewReader(snapshot), true); err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	return active.await(ctx, "the snapshot to be restored", func(ctx context.Context) error {
		kept, err := active.probe.Logical().ReadWithContext(ctx, mark)
		if err == nil && kept != nil {
			err = errors.New("the state is the one before")
		}
		return err
	})
}
