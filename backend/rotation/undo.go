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
	nowUnchanged  = "Nothing was changed: readers keep getting what they got before, and it works as it did. Mend the cause, then run the same command again."
	nowRestored   = "What had been changed at the target was put back and checked: readers keep getting what they got before, and it works."
	nowUnknown    = "What had been changed at the target was put back and checked, and storage did not take the end of it; readers keep getting what they got before. The engine ends it as soon as storage answers; status tells."
	nowUnsaved    = "What the target holds now, the new value or the current one, is not known, and storage did not take the end of this; readers keep getting what they got before. The engine finds out as soon as storage answers; status tells."
	nowIntended   = "No target was touched: readers keep getting what they got before. Whether storage took the intent is not known; the engine will find out as soon as storage answers, and then goes forward or back; status tells."
	nowRetiring   = "The previous value is no longer offered to readers; whether it is retired will be found out as soon as storage answers."
	nowRepaired   = "No value was changed. Whether all of them are accepted again will be found out as soon as storage answers; status tells."
	nowRefused    = "No value was changed: readers keep getting what they got before, and it does not work where it is still refused. Mend the cause and try again."
	nowTakenOver  = "Another node of the cluster found this operation interrupted and ended it; status and history tell how."
	nowUnreceived = "Whether storage took the commit is not known. If it did, the new value is current and nobody has it: roll back, or rotate again. If not, the new value is dropped. Status tells, as soon as storage answers."
	nowInDoubt    = "Whether storage took the commit is not known. Every new value is in place and proven; the engine will finish as soon as storage answers; status tells."
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
		now = "The secret was not created. Its target had been given a new value, which is discarded; what it held before is not known here: write the secret again, or set a value by hand."
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
// stops them after too many. What an operator tries by hand does not count.
func (run *Run) count(s *State, cause error) {
	s.LastError = cause.Error()
	if run.op.Trigger == TriggerManual {
		return
	}
	s.Failures++
	s.RetryAt = run.role.retryAt(s.Failures)
	s.NeedsAttention = s.NeedsAttention || s.Failures > run.role.Snapshot().Resolved.MaxRetries
}

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
