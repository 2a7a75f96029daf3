package rotation

import (
	"context"
	"time"
)

// An overlap is for readers: in it, they come for the current value. However much of it has
// passed by the clock, it gives them at least one refresh interval in which this process
// could answer them: Vault may have been down or sealed, its machine suspended, its clock
// set ahead.

// shown is since when readers can have read from this process what replaced a version of a
// secret.
type shown struct {
	replaced int
	since    time.Time
}

// show replaces what readers see, and notes since when they see what replaced a previous
// value. A clock without a monotonic reading may have been set back since.
func (r *Role) show(next *Snapshot) {
	var seen map[string]shown
	now := r.engine.Now()
	for name, secret := range next.Secrets {
		if secret.Previous == nil {
			continue
		}
		if seen == nil {
			seen = map[string]shown{}
		}
		seen[name] = shown{secret.Previous.Version, now}
		if before := r.shown[name]; before.replaced == secret.Previous.Version && !before.since.After(now) {
			seen[name] = before
		}
	}
	r.shown = seen
	r.snapshot.Store(next)
}

// prolonged is when the overlap of a secret ends that is to end at a time, if readers have
// not had a refresh interval to read its current value by then; else zero. It is zero as well
// if its target refuses the previous value.
func (run *Run) prolonged(ctx context.Context, secret Secret, end time.Time) time.Time {
	until := run.readBy(secret)
	if !until.After(end) || !run.local(secret) && run.refusesPrevious(ctx, secret) {
		return time.Time{}
	}
	return until
}

// readBy is when that interval ends, by the clock as it is now, in whole seconds. There is
// none, and it is zero, for what was revoked, died when the current value was set, is read by
// nobody, or of which the end is decided: readers were told of that, and an attempt to retire
// it may have made it unusable.
func (run *Run) readBy(secret Secret) time.Time {
	if previous := secret.Previous; previous.revoked() || !previous.undecided() || secret.ShownOnce || run.driver(secret).CutsOver(secret) {
		return time.Time{}
	}
	run.role.mu.Lock()
	defer run.role.mu.Unlock()
	now := run.role.engine.Now()
	had := now.Sub(run.role.shown[secret.Name].since)
	return now.UTC().Add(run.role.Snapshot().Resolved.RefreshInterval - had + time.Second - 1).Truncate(time.Second)
}
