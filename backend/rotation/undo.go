package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What is true after a failure, for the person who asked.
const (
	nowUnchanged  = "Nothing was changed: readers keep the same values. Fix the cause, then run the same command again."
	nowRestored   = "The engine put the targets back and checked them: readers keep the same values, and these work. Fix the cause, then run the same command again."
	nowUnknown    = "The engine put the targets back and checked them, but storage did not accept the end of this operation. Readers keep the same values. The engine ends the operation as soon as storage answers; then read status."
	nowUnsaved    = "It is not known whether the target holds the new value or the current one, and storage did not accept the end of this operation. Readers keep the same values. The engine asks the target as soon as storage answers; then read status."
	nowIntended   = "No target was touched: readers keep the same values. It is not known whether storage accepted the intent. The engine finds out as soon as storage answers, and then goes forward or back; then read status."
	nowRetiring   = "Readers no longer get the previous value. It is not known whether it is retired. The engine finds out as soon as storage answers; then read status."
	nowRepaired   = "No value was changed. It is not known whether the targets accept all of them again. The engine finds out as soon as storage answers; then read status."
	nowRefused    = "No value was changed: readers keep the same values. A target may still refuse one; there it does not work. Fix the cause, then run the same command again."
	nowTakenOver  = "Another node of the cluster found this operation interrupted, and ended it. Read status and history for how it ended."
	nowUnreceived = "It is not known whether storage accepted the commit. If it did, the new value is current and nobody has it: the previous one stays valid for the overlap. Roll back, which makes that one current again, or rotate again, which makes another new value and gives that one an overlap again. If not, the engine drops the new value. Read status as soon as storage answers."
	nowInDoubt    = "It is not known whether storage accepted the commit. Every new value is in place and proven. The engine ends the operation as soon as storage answers; then read status."
)

// fail ends a run that has touched nothing.
func (run *Run) fail(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	err := run.role.update(ctx, func(s *State) error {
		return run.drop(s, OutcomeFailed, cause)
	})
	return run.failure(OutcomeFailed, errors.Join(cause, err), nowUnchanged)
}

// refuse ends a run whose intent storage did not take.
func (run *Run) refuse(cause error) error {
	if errors.Is(cause, ErrInvalid) || errors.Is(cause, ErrInFlight) {
		return cause
	}
	if run.role.Snapshot().Unsure {
		return run.failure(OutcomeFailed, cause, nowIntended)
	}
	return run.failure(OutcomeFailed, cause, nowUnchanged)
}

// undo takes back what the run has done to targets, proves that the current
// values still work, and drops the pending ones. A target that can't be put back
// keeps no other from it.
func (run *Run) undo(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	failed := map[string]error{}
	for _, name := range slices.Backward(run.touched) {
		if err := run.restore(ctx, name); err != nil {
			failed[name] = err
		}
	}
	if len(failed) > 0 {
		return run.unresolved(ctx, cause, failed)
	}
	outcome, now := OutcomeFailed, nowUnchanged
	if len(run.touched) > 0 {
		outcome, now = OutcomeRolledBack, nowRestored
	}
	if run.op.Kind == KindCreate && len(run.touched) > 0 {
		now = "The secret was not created. Its target got a new value, which the engine has discarded; the engine does not know the value before it. Write the secret again, or set a value at the target by hand."
	}
	err := run.role.update(ctx, func(s *State) error { return run.drop(s, outcome, cause) })
	if err != nil {
		return run.failure(OutcomeFailed, errors.Join(cause, err), nowUnknown)
	}
	return run.failure(outcome, cause, now)
}

// restore undoes one secret at its target and makes sure that the target accepts
// its current value, also where it had ceased to before the operation began.
func (run *Run) restore(ctx context.Context, name string) error {
	_, err := run.putBack(ctx, run.secret(name))
	return err
}

// putBack is restore, and reports whether a target that will not be put back accepts
// the pending value. If it refuses that, it is as it was.
func (run *Run) putBack(ctx context.Context, secret Secret) (accepts bool, err error) {
	driver := run.driver(secret)
	err = run.step(ctx, secret.Name, "undo", func(ctx context.Context) error {
		return driver.Undo(ctx, secret, run.fence)
	})
	if errors.Is(err, ErrUnchanged) && run.asks(secret) {
		answer := run.step(ctx, secret.Name, "probe", func(ctx context.Context) error {
			return driver.Probe(ctx, secret, secret.Pending.Material)
		})
		if answer == nil {
			return true, err
		}
		if errors.Is(answer, ErrRefused) {
			err = nil
		}
	}
	if err != nil || secret.Current == nil {
		return false, err
	}
	return false, run.mend(ctx, secret, secret.Current)
}

// drop is the change that ends an unsuccessful operation.
func (run *Run) drop(s *State, outcome Outcome, cause error) error {
	if s.InFlight != nil && s.InFlight.ID != run.op.ID {
		return errSuperseded
	}
	results := run.results(s)
	for _, name := range run.op.Secrets {
		if secret := s.Secrets[name]; secret != nil {
			secret.Pending = nil
			if secret.Current == nil && secret.Unresolved == nil {
				delete(s.Secrets, name)
			}
		}
	}
	s.InFlight = nil
	run.count(s, cause)
	return run.note(s, outcome, results, cause)
}

// inDoubt ends a run whose end storage did not answer for.
func (run *Run) inDoubt(cause error, now string) error {
	return run.failure(OutcomeFailed, fmt.Errorf("commit: %w", cause), now)
}

// note adds the record of a failure to the state.
func (run *Run) note(s *State, outcome Outcome, results []SecretResult, cause error) error {
	run.issues = append(run.issues, cause.Error())
	return run.conclude(s, outcome, results)
}

// count keeps the automatic attempts from following each other too closely, and
// stops them after too many. What an operator tries by hand does not count. A
// retirement stops nothing: it is tried for as long as it fails, and readers, who
// do not get that value any more, need their next rotation all the same.
func (run *Run) count(s *State, cause error) {
	s.LastError = cause.Error()
	if run.op.Trigger == TriggerManual {
		return
	}
	s.Failures++
	if run.op.Kind == KindRetire {
		s.FailedRetirements++
		return
	}
	s.pause(run.role, s.FailedRotations())
	tooMany := s.FailedRotations() > run.role.Snapshot().Resolved.MaxRetries
	s.NeedsAttention = s.NeedsAttention || tooMany
}

// pause puts off the next automatic attempt after so many failures. What is put off for
// longer stays so.
func (s *State) pause(r *Role, failures int) { s.RetryAt = later(s.RetryAt, r.retryAt(failures)) }

// retryAt is the earliest time of the next automatic attempt.
func (r *Role) retryAt(failures int) time.Time {
	pause := r.Snapshot().Resolved.retryPause(r.Key, failures)
	return r.engine.Now().UTC().Add(pause).Truncate(time.Second)
}

// failure is the error for a run that did not complete. A record that says
// something else was made for a state that could not be saved, and is not true.
func (run *Run) failure(outcome Outcome, cause error, now string) error {
	if run.record.Outcome != outcome {
		run.record = Record{Operation: run.op, Role: run.role.Name, Outcome: outcome}
	}
	return &Failure{Record: run.record, Cause: cause, Now: now}
}
