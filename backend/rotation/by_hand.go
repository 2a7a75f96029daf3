package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// planRetire selects the secrets that have a previous value, valid or not.
func (run *Run) planRetire(s *State) error {
	possible := slices.DeleteFunc(s.Names(), func(name string) bool { return s.Secrets[name].Previous == nil })
	return run.choose(possible, "previous value to retire")
}

// retireByHand ends overlaps because somebody asks for it. It cuts nobody off unless that
// is forced.
func (run *Run) retireByHand(ctx context.Context) error {
	run.cutOff = map[string][]string{}
	var found []string
	for _, name := range run.op.Secrets {
		secret := run.secret(name)
		if secret.Previous.Held() {
			continue // its overlap has ended
		}
		names := few(run.needs(ctx, secret))
		if run.cutOff[name] = names; len(names) > 0 {
			found = append(found, fmt.Sprintf("secret %s: %s", name, strings.Join(names, ", ")))
		}
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	if len(found) > 0 && !run.op.Force {
		return Invalid("force", "is not set, and retiring the previous values now would cut off: %s. Nothing was changed. To cut them off, write force=true", strings.Join(found, "; "))
	}
	if err := run.holdByHand(ctx); err != nil {
		return run.refuse(err)
	}
	if len(run.op.Secrets) == 0 {
		return nil
	}
	if err := run.intend(ctx); err != nil {
		return run.refuse(err)
	}
	return run.retireAgain(ctx)
}

// holdByHand ends the overlaps of the values that applications are to be asked to refuse,
// and takes their secrets out of the operation, as hold does: the engine retires them once
// readers have heard of it.
func (run *Run) holdByHand(ctx context.Context) error {
	run.planRefusals(ctx)
	held := map[string]time.Time{}
	for _, name := range run.op.Secrets {
		if at := run.heldUntil(run.secret(name).Previous); at.After(run.now()) && slices.ContainsFunc(run.op.Tasks, about(name)) {
			held[name] = at
			run.found(fmt.Sprintf("secret %s: readers no longer get the previous value. The engine retires it at %s, and asks applications to refuse it then", name, at.Format(time.RFC3339)))
		}
	}
	if len(held) == 0 {
		return nil
	}
	run.op.Secrets = slices.DeleteFunc(slices.Clone(run.op.Secrets), func(name string) bool { return !held[name].IsZero() })
	run.planRefusals(ctx)
	run.describe()
	return run.role.update(ctx, func(s *State) error {
		run.endOverlaps(s)
		for name, at := range held {
			previous := *s.Secrets[name].Previous
			previous.DestroyTime = at
			s.Secrets[name].Previous = &previous
		}
		if len(run.op.Secrets) > 0 {
			return nil
		}
		return run.conclude(s, OutcomeCompleted, []SecretResult{})
	})
}

// heldUntil is when a value whose overlap ends now may be retired, if applications are to
// be asked to refuse it.
func (run *Run) heldUntil(previous *Value) time.Time {
	if previous.Held() {
		return previous.DestroyTime
	}
	return sooner(previous.RetireTime, run.now()).Add(run.role.Snapshot().Resolved.RefreshInterval)
}

// needs names everybody who needs the previous value of a secret at this moment: also a
// rollback that may follow.
func (run *Run) needs(ctx context.Context, secret Secret) []string {
	names := run.dependents(secret)
	if err := run.replaced(ctx, secret); errors.Is(err, ErrRefused) {
		names = append(names, "everybody, because the target refuses the current value")
	}
	switch sessions, err := run.sessions(ctx, secret); {
	case err != nil:
		names = append(names, uncounted(err))
	case sessions > 0:
		names = append(names, fmt.Sprintf("%s: %d", openSessions, sessions))
	}
	if f := run.role.Snapshot().PostCommit; f != nil && slices.Contains(f.Secrets, secret.Name) {
		for _, t := range f.open() {
			if t.Required {
				names = append(names, fmt.Sprintf("the rollback that follows if %s fails", t.Name))
			}
		}
	}
	return names
}

// endOverlaps ends the overlaps of a retirement by hand, with its intent: from then on
// nobody is given the values.
func (run *Run) endOverlaps(s *State) {
	for name, names := range run.cutOff {
		secret := s.Secrets[name]
		previous := *secret.Previous
		previous.RetireTime = sooner(previous.RetireTime, run.now())
		previous.LookTime, previous.WaitsFor = time.Time{}, names
		previous.DrainUntil = sooner(secret.CutOver(), previous.RetireTime) // also by a clock that was ahead
		secret.Previous = &previous
	}
}
