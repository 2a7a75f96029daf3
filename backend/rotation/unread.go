package rotation

import (
	"context"
	"slices"
	"time"
)

// An overlap is for readers: in it, they come for the current value. However much of it has
// passed by the clock, it gives them at least one refresh interval in which this process
// could answer them: Vault may have been down or sealed, its machine suspended, its clock
// set ahead.

// Prolonged is what is noted of an overlap that was made longer for readers.
type Prolonged struct {
	// At is when that was done last, by the clock as it was then; zero if it never was.
	At time.Time `json:"at"`
	// By is for how much longer the value is valid in all, in nanoseconds. What has passed
	// between the end of its overlap and a start of Vault does not count.
	By time.Duration `json:"by"`
	// Final says that it is not made longer again: the engine has tried to retire the value,
	// or a person has ended its overlap.
	Final bool `json:"final,omitempty"`
}

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
	if !until.After(end) || run.refusesPrevious(ctx, secret) {
		return time.Time{}
	}
	return until
}

// readBy is when that interval ends, by the clock as it is now, in whole seconds. There is
// none, and it is zero, for what died when the current value was set, is read by nobody, or
// of which the end is final; nor once the overlap was made longer by as much as it takes
// without that: Vault may start again and again.
func (run *Run) readBy(secret Secret) time.Time {
	previous, resolved := secret.Previous, run.role.Snapshot().Resolved
	if secret.ShownOnce || run.driver(secret).CutsOver(secret) || previous.final() || previous.Prolonged.By >= resolved.Overlap {
		return time.Time{}
	}
	run.role.mu.Lock()
	defer run.role.mu.Unlock()
	now := run.role.engine.Now()
	had := now.Sub(run.role.shown[secret.Name].since)
	return now.UTC().Add(resolved.RefreshInterval - had + time.Second - 1).Truncate(time.Second)
}

// final reports whether the overlap of a previous value is not made longer for readers. They
// were told of its end, and an attempt to retire the value may have made it unusable. Values
// that were stored in format 1 don't say whether they were revoked.
func (v *Value) final() bool {
	decided := !v.undecided() && (v.Prolonged.At.IsZero() || v.Prolonged.Final)
	return decided || v.revoked() || v.Held() || v.Replaced.IsZero()
}

// prolong makes the overlap of s longer. If somebody was waited for, nobody is any more, and
// the next automatic rotation waits for the new end.
func (s *Secret) prolong(previous *Value, until, now time.Time) {
	longer := until.Sub(later(previous.RetireTime, now))
	previous.RetireTime, previous.LookTime = until, time.Time{} // the engine looks again at the new end
	if s.waited() {
		s.decide(previous)
	}
	previous.Prolonged = Prolonged{At: now, By: previous.Prolonged.By + longer}
}

// prolongAll makes overlaps longer before an operation sets the login of a previous value, or
// one that was left open is undone: undoing gives back no value whose overlap has ended. Of
// what is left open, the target may refuse the value until then. Retirements look in drain.
func (run *Run) prolongAll(ctx context.Context) error {
	s, now, untils := run.role.Snapshot(), run.role.engine.Now(), map[string]time.Time{}
	for _, name := range s.Names() {
		secret := s.Secrets[name]
		inFlight := s.InFlight != nil && slices.Contains(s.InFlight.Secrets, name)
		open := inFlight || secret.Unresolved != nil
		if secret.Previous == nil || inFlight && s.InFlight.Kind == KindRetire || !open && run.op.Kind == KindRetire {
			continue
		}
		until := run.readBy(*secret)
		if until.After(later(secret.Previous.RetireTime, now)) && (open || !run.refusesPrevious(ctx, *secret)) {
			untils[name] = until
		}
	}
	if len(untils) == 0 {
		return nil
	}
	return run.role.update(ctx, func(s *State) error {
		for name, until := range untils {
			if secret := s.Secrets[name]; secret != nil && secret.Previous != nil {
				previous := *secret.Previous
				secret.prolong(&previous, until, run.now())
				secret.Previous = &previous
			}
		}
		return nil
	})
}
