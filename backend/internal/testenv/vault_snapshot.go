package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
)

// Snapshot returns a raft snapshot: all that Vault has stored.
func (v *Vault) Snapshot(ctx context.Context) ([]byte, error) {
	var snapshot bytes.Buffer
	if err := v.Client.Sys().RaftSnapshotWithContext(ctx, &snapshot); err != nil {
		return nil, fmt.Errorf("take snapshot: %w", err)
	}
	return snapshot.Bytes(), nil
}

// Restore puts back a snapshot of this server, by force as one restores after a
// disaster, and returns when the server has it, which takes Vault five seconds at
// least. The plugins are started anew.
func (v *Vault) Restore(ctx context.Context, snapshot []byte) error {
	// Vault answers before it has restored, so something must vanish.
	mark := "cubbyhole/before-restore-" + rand.Text()
	if _, err := v.Client.Logical().WriteWithContext(ctx, mark, map[string]any{"at": "now"}); err != nil {
		return fmt.Errorf("mark state before restore: %w", err)
	}
	if err := v.Client.Sys().RaftSnapshotRestoreWithContext(ctx, bytes.NewReader(snapshot), true); err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	return v.await(ctx, "the snapshot to be restored", func(ctx context.Context) error {
		kept, err := v.probe.Logical().ReadWithContext(ctx, mark)
		if err == nil && kept != nil {
			err = errors.New("the state is the one before")
		}
		return err
	})
}
