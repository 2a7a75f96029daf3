package rotation

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
		names := few(run.needs(ctx, run.secret(name)))
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
	if err := run.intend(ctx); err != nil {
		return run.refuse(err)
	}
	return run.retireAgain(ctx)
}

// needs names everybody who needs the previous value of a secret at this moment: also a
// rollback that may follow.
func (run *Run) needs(ctx context.Context, secret Secret) []string {
	names := run.dependents(ctx, secret)
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
		if now := run.now(); previous.RetireTime.After(now) {
			previous.RetireTime = now
		}
		previous.DrainUntil, previous.WaitsFor = secret.CutOver(), names
		if previous.DrainUntil.After(previous.RetireTime) { // by a clock that was ahead
			previous.DrainUntil = previous.RetireTime
		}
		secret.Previous = &previous
	}
}
