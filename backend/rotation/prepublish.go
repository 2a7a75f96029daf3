package rotation

import (
	"context"
	"fmt"
	"time"
)

// A key that others verify with is shown to them one rotation before it is used,
// because they keep what they were shown for a while: the keys that a rotation
// makes current are the ones that the rotation before it has published.
//
//	commit ──▶ published as next ──≥ one refresh interval──▶ current ──▶ previous ──▶ retired

// published is the value that was made and published for this rotation, nil if
// there is none.
func (run *Run) published(secret Secret) *Value {
	next := secret.Next
	if run.op.Kind != KindRotate || run.discards || next == nil || !fits(run.driver(secret), secret, next.Material) {
		return nil
	}
	return &Value{Material: next.Material, Created: next.Created, Published: next.Published}
}

// unseen is since when a value made only now is published: there was a time when
// others were shown the secret without it, unless this is its first value.
func (run *Run) unseen(secret Secret) time.Time {
	if secret.Current == nil || !publishes(run.driver(secret), secret) {
		return time.Time{}
	}
	return run.now()
}

// createNext makes the value that is to be published when this run commits. A
// rollback changes nothing about what comes next.
func (run *Run) createNext(ctx context.Context, secret Secret) error {
	if run.op.Kind == KindRollback || !publishes(run.driver(secret), secret) {
		return nil
	}
	material, err := run.driver(secret).Create(ctx, secret)
	if err != nil {
		return err
	}
	run.next[secret.Name] = &Value{Material: material, Created: run.now()}
	return nil
}

// createNextAgain is createNext for a run that continues an interrupted one. What
// that had made is lost, and nobody has seen it.
func (run *Run) createNextAgain(ctx context.Context) error {
	run.next = map[string]*Value{}
	for _, name := range run.targets {
		secret := run.secret(name)
		err := run.step(ctx, name, "create", func(ctx context.Context) error { return run.createNext(ctx, secret) })
		if err != nil {
			return err
		}
	}
	return nil
}

// publish is the part of the commit that replaces the next value of a secret. If
// its configuration was changed while the run was under way, what was published
// with that stays.
func (run *Run) publish(secret *Secret, now time.Time) {
	if run.op.Kind == KindRollback {
		return
	}
	made, driver := run.next[secret.Name], run.driver(*secret)
	switch {
	case made != nil && fits(driver, *secret, made.Material):
		next := *made
		if secret.Current != nil {
			next.Published = now
		}
		secret.Next = &next
	case secret.Next != nil && (!fits(driver, *secret, secret.Next.Material) || secret.Next.Material.Equal(secret.Pending.Material)):
		secret.Next = nil
	}
}

// warnUnseen notes the values that this rotation makes current before everybody
// who verifies them can have seen them. One by schedule waits for that.
func (run *Run) warnUnseen() {
	if run.op.Kind != KindRotate {
		return
	}
	for _, name := range run.targets {
		if warning := run.role.Snapshot().unseen(name, run.secret(name).Pending, run.role.engine.Now()); warning != "" {
			run.issues = append(run.issues, warning)
		}
	}
}

// Unseen is what a rotation of that secret would warn of for the same reason;
// empty if it would not.
func (s *Snapshot) Unseen(name string, now time.Time) string {
	if next := s.Secrets[name].Next; next != nil {
		return s.unseen(name, next, now)
	}
	return ""
}

// unseen warns of a value that not everybody who reads often enough has seen.
func (s *Snapshot) unseen(name string, v *Value, now time.Time) string {
	refresh := s.Resolved.RefreshInterval
	if v.Published.IsZero() || !now.Before(v.Published.Add(refresh)) {
		return ""
	}
	return fmt.Sprintf(
		"secret %s: the new value was published only %s ago, and verifiers may keep what they read for %s. Until they read again, they may refuse what it signs",
		name, now.Sub(v.Published).Truncate(time.Second), refresh)
}

// Planned is when the next automatic rotation is planned: at its stored time, when what
// it makes current has been published for one refresh interval, or when the running
// overlap ends, whichever is latest. It changes only with the state. Zero means that none
// is planned.
func (s *Snapshot) Planned() time.Time {
	if s.NextRotation.IsZero() {
		return s.NextRotation
	}
	return later(s.published(), s.overlapEnd())
}

// published is Planned without a look at the running overlap.
func (s *Snapshot) published() time.Time {
	at := s.NextRotation
	for _, secret := range s.Secrets {
		if next := secret.Next; next != nil && !next.Published.IsZero() {
			at = later(at, next.Published.Add(s.Resolved.RefreshInterval))
		}
	}
	return at
}

// nextAfter makes the value to be published in advance if what write makes of a secret
// needs another one.
func (r *Role) nextAfter(ctx context.Context, name string, write func(draft *State) error) (Material, error) {
	draft := r.Snapshot().Clone()
	if err := write(draft); err != nil {
		return nil, err
	}
	secret := draft.Secrets[name]
	driver := r.engine.Drivers[secret.Type]
	if !publishes(driver, *secret) || secret.Next != nil && fits(driver, *secret, secret.Next.Material) {
		return nil, nil
	}
	next, err := driver.Create(ctx, *secret)
	if err != nil {
		return nil, fmt.Errorf("make key to publish: %w", err)
	}
	return next, nil
}

// republish replaces the value that is published in advance where it does not fit.
func (r *Role) republish(secret *Secret, next Material) {
	driver := r.engine.Drivers[secret.Type]
	if secret.Next != nil && !fits(driver, *secret, secret.Next.Material) {
		secret.Next = nil
	}
	if secret.Next == nil && next != nil && fits(driver, *secret, next) {
		now := r.engine.Now().UTC().Truncate(time.Second)
		secret.Next = &Value{Material: next, Created: now, Published: now}
	}
}
