package rotation

import (
	"context"
	"fmt"
	"slices"
)

// recover finishes an operation whose intent was saved and whose end was not: the
// process died, storage failed, or a target could not be put back. It does not
// guess. It asks every target whether it accepts the pending value; if all do,
// little more than the commit was missing, and it goes forward; otherwise back.
func (run *Run) recover(ctx context.Context) error {
	interrupted := run.role.Snapshot().InFlight
	if interrupted == nil {
		return nil
	}
	recovery := run.takeOver(interrupted)
	switch recovery.op.Kind {
	case KindRetire:
		return recovery.settled(recovery.retireAgain(ctx))
	case KindRepair:
		return recovery.settled(recovery.repairAgain(ctx))
	}
	if recovery.unreceived() {
		recovery.found("interrupted; the engine had not stored the new value, and nobody received it, so it went back")
		return recovery.settled(recovery.goBack(ctx, interrupted))
	}
	// A value that a target may refuse is not tried for as long as storage takes no answer.
	err := recovery.fence(ctx)
	if err != nil {
		return recovery.failure(OutcomeFailed, err, nowUnsaved)
	}
	for _, name := range recovery.targets {
		if err = recovery.accepts(ctx, name); err != nil {
			break
		}
	}
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case err == nil:
		return recovery.goForward(ctx, interrupted)
	}
	recovery.found("interrupted; the engine could not prove that every target accepts the new value, so it went back")
	return recovery.settled(recovery.goBack(ctx, interrupted))
}

// settled lets whoever asked for the operation that found an interrupted one go
// on when that has ended, well or not: only what is still open is in the way.
func (run *Run) settled(err error) error {
	if run.role.Snapshot().InFlight == nil {
		return nil
	}
	return err
}

// takeOver continues a saved operation in the run that stands in its way. The
// record will say recovery, and still name who had asked for it.
func (run *Run) takeOver(op *Operation) *Run {
	continued := &Run{role: run.role, op: *op, steps: map[string][]Step{}, targets: op.Secrets}
	continued.op.Trigger = TriggerRecovery
	return continued
}

func (run *Run) found(what string) { run.issues = append(run.issues, what) }

// accepts uses the pending value of a secret. The error wraps ErrRefused if its target
// refuses it.
func (run *Run) accepts(ctx context.Context, name string) error {
	secret := run.secret(name)
	return run.step(ctx, name, "probe", func(ctx context.Context) error {
		return run.driver(secret).Test(ctx, secret, secret.Pending.Material)
	})
}

// goForward commits what every target accepts. Before that it sets all of it once
// more: a change that another node was stopped in and has left uncommitted, such
// as an undo, ends before this one, and so cannot take effect after the commit.
func (run *Run) goForward(ctx context.Context, interrupted *Operation) error {
	for _, name := range run.targets {
		err := run.setAndTest(ctx, name)
		switch {
		case ctx.Err() != nil:
			return errInterrupted
		case err != nil:
			run.found("interrupted; a target accepted the new value and later did not, so the engine went back")
			return run.settled(run.goBack(ctx, interrupted))
		}
	}
	if err := run.createNextAgain(ctx); err != nil {
		return run.settled(run.goBack(ctx, interrupted))
	}
	run.found("interrupted; every target accepts the new value, so the engine went forward")
	return run.commit(ctx)
}

// goBack undoes an interrupted operation. It always returns an error.
func (run *Run) goBack(ctx context.Context, interrupted *Operation) error {
	if run.op.Kind != KindImport {
		run.touched = slices.Clone(run.targets)
	}
	return run.undo(ctx, fmt.Errorf("%s %s was interrupted before every target had its new value", interrupted.Kind, interrupted.ID))
}

// reload makes sure that the snapshot is what storage holds.
func (r *Role) reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reloadLocked(ctx)
}
