package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// repair sets again what readers are given and a target refuses: somebody changed
// it there, or Vault was restored from a snapshot that is older than the target's
// value. No value changes, so the version does not either. It is done only when
// somebody asks: a value from a snapshot may be one that was revoked since.
func (run *Run) repair(ctx context.Context) error {
	if err := run.intend(ctx); err != nil {
		return run.refuse(err)
	}
	return run.repairAgain(ctx)
}

// repairAgain does the part of repair that follows the intent; doing it twice is
// as good as once.
func (run *Run) repairAgain(ctx context.Context) error {
	var cause error
	for _, name := range run.op.Secrets {
		secret := run.secret(name)
		for _, v := range run.role.engine.offered(secret) {
			cause = errors.Join(cause, run.mend(ctx, secret, v))
		}
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	if cause == nil && len(run.issues) == 0 {
		run.found("every target accepts the stored values; nothing was set")
	}
	if err := run.role.update(ctx, func(s *State) error { return run.endRepair(s, cause) }); err != nil {
		return run.inDoubt(err, nowRepaired)
	}
	if cause != nil {
		return run.failure(OutcomeFailed, cause, nowRefused)
	}
	return nil
}

// mend makes the target of a secret accept the value v, if it refuses it.
func (run *Run) mend(ctx context.Context, secret Secret, v *Value) error {
	probe := func(ctx context.Context) error { return run.driver(secret).Probe(ctx, secret, v.Material) }
	err := run.step(ctx, secret.Name, "probe", probe)
	if !errors.Is(err, ErrRefused) {
		return err
	}
	if run.op.Kind == KindRepair { // who puts back what it has changed does what it can
		if err := run.lookAt(ctx, secret, v.Material); err != nil {
			return err
		}
	}
	if err := run.step(ctx, secret.Name, "set", func(ctx context.Context) error {
		return run.driver(secret).Set(ctx, secret, v.Material, run.fence)
	}); err != nil {
		return err
	}
	if err := run.step(ctx, secret.Name, "test", probe); err != nil {
		return err
	}
	run.found(fmt.Sprintf("secret %s: the target refused %s; the engine set it again", secret.Name, secret.stage(v)))
	return nil
}

// endRepair is the change that ends a repair.
func (run *Run) endRepair(s *State, cause error) error {
	if s.InFlight == nil || s.InFlight.ID != run.op.ID {
		return errSuperseded
	}
	results := run.results(s)
	s.InFlight = nil
	if cause != nil {
		s.LastError = cause.Error()
		return run.note(s, OutcomeFailed, results, cause)
	}
	if s.Failures == 0 && !s.NeedsAttention {
		s.LastError = ""
	}
	if err := run.place(s); err != nil {
		return err
	}
	return run.conclude(s, OutcomeCompleted, results)
}

// Refused asks the target of s whether it accepts what readers are given, and
// describes the values that it refuses. It changes nothing. The error is that of
// a target that could not be asked.
func (e *Engine) Refused(ctx context.Context, s Secret) (refused []string, err error) {
	for _, v := range e.offered(s) {
		err := e.Drivers[s.Type].Probe(ctx, s, v.Material)
		switch {
		case errors.Is(err, ErrRefused):
			refused = append(refused, s.stage(v))
		case err != nil:
			return refused, err
		}
	}
	return refused, nil
}

// offered are the values that readers are given, and that the target of s is to
// accept.
func (e *Engine) offered(s Secret) []*Value {
	var values []*Value
	if s.Current != nil {
		values = append(values, s.Current)
	}
	if previous := s.PreviousAt(e.Now()); previous != nil && !e.Drivers[s.Type].CutsOver(s) {
		values = append(values, previous)
	}
	return values
}

// stage names a value of s.
func (s *Secret) stage(v *Value) string {
	if v == s.Previous {
		return fmt.Sprintf("the previous value, version %d, in its overlap until %s", v.Version, v.RetireTime.Format(time.RFC3339))
	}
	return fmt.Sprintf("the current value, version %d", v.Version)
}
