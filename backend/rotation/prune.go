package rotation

import (
	"context"
	"fmt"
)

// prunable returns the newest entry that the retention limit lets go, and its
// hash, from which the kept part of the chain is verified.
func (r *Role) prunable(ctx context.Context) (base int, hash string, err error) {
	history := r.Snapshot().History
	retention := r.engine.Settings().Retention
	target := history.Count - retention
	if retention == 0 || target <= history.Base {
		return history.Base, history.BaseHash, nil
	}
	e, err := r.entry(ctx, r.Snapshot().State, target)
	if err != nil {
		return 0, "", err
	}
	if e == nil {
		return history.Base, history.BaseHash, nil
	}
	return target, e.Hash, nil
}

// prune deletes the entries that the saved state no longer counts. A failure is
// no more than clutter: the chain begins after base, whatever is before it.
func (r *Role) prune(ctx context.Context, base int) error {
	if base == 0 {
		return nil
	}
	if err := r.engine.Store.DeleteEntries(ctx, r.Key, base); err != nil {
		return fmt.Errorf("%w: prune history of %s: %w", ErrStorage, r.Key, err)
	}
	return nil
}
