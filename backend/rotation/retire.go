package rotation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// expired lists the secrets whose previous value is due to be retired.
func (s *State) expired(now time.Time) []string {
	var names []string
	for _, name := range s.Names() {
		if previous := s.Secrets[name].Previous; previous != nil && !now.Before(previous.ends()) {
			names = append(names, name)
		}
	}
	return names
}

// retire ends the overlap of the values that are due: it makes each unusable at
// its target, proves that it is refused, has applications asked to refuse it, and destroys
// it in storage. The intent is saved first for the same reason as in transact.
func (run *Run) retire(ctx context.Context) error {
	run.paused = run.role.Snapshot().RetryAt.After(run.role.engine.Now())
	if err := run.drain(ctx); err != nil {
		return run.refuse(err)
	}
	if err := run.hold(ctx); err != nil {
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

// retireAgain does the part of retire that follows the intent; doing it twice is
// as good as once.
func (run *Run) retireAgain(ctx context.Context) error {
	var retired []string
	var cause error
	for _, name := range run.op.Secrets {
		secret := run.secret(name)
		if secret.Previous == nil {
			continue
		}
		err := run.replaced(ctx, secret)
		if err == nil {
			err = run.step(ctx, name, "retire", func(ctx context.Context) error {
				return run.driver(secret).Retire(ctx, secret, secret.Previous.Material, run.fence)
			})
		}
		if err == nil {
			err = run.leave(ctx, secret)
		}
		if err != nil {
			cause = err
			continue
		}
		retired = append(retired, name)
	}
	run.ask(ctx, retired)
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err := run.role.update(ctx, func(s *State) error { return run.forget(s, retired, cause) }); err != nil {
		return run.inDoubt(err, nowRetiring)
	}
	if cause != nil {
		return run.failure(OutcomeFailed, cause, "Readers no longer get the previous value. The engine will try again to retire it.")
	}
	return nil
}

// replaced returns an error if the target refuses the current value of a secret: its
// previous one may be the last that works, or what the target has may be neither. What is
// revoked, or retired by force, is retired nevertheless, also at the next attempt.
func (run *Run) replaced(ctx context.Context, secret Secret) error {
	if secret.Previous.revoked() || run.op.Force || secret.forced() || run.local(secret) || run.driver(secret).CutsOver(secret) {
		return nil
	}
	return run.step(ctx, secret.Name, "probe", func(ctx context.Context) error {
		err := run.driver(secret).Probe(ctx, secret, secret.Current.Material)
		if !errors.Is(err, ErrRefused) {
			return nil // retiring asks the target as well
		}
		return fmt.Errorf("%w: the previous value stays as it is, because it may be the only one that works: set the current one again, with verify/%s and repair=true, or retire the previous one nevertheless, with retire/%[2]s and force=true", err, run.role.Name)
	})
}

// forget is the change that destroys retired values. A value that could not be
// retired is kept, to be tried again; of failures that achieve nothing, only the
// first is recorded.
func (run *Run) forget(s *State, retired []string, cause error) error {
	if s.InFlight == nil || s.InFlight.ID != run.op.ID {
		return errSuperseded
	}
	results := run.results(s)
	for _, name := range retired {
		run.found(run.fate(name, s.Secrets[name].Previous.Version))
		run.tellNeeded(results, s.Secrets[name])
		s.startAtEnd(s.Secrets[name])
		s.Secrets[name].Previous = nil
	}
	run.answered(s)
	run.waitNoMore(s)
	s.InFlight = nil
	if cause == nil {
		if !run.paused {
			s.Failures, s.FailedRetirements, s.RetryAt = 0, 0, time.Time{}
		}
		if !run.paused && !s.NeedsAttention {
			s.LastError = ""
		}
		return run.conclude(s, OutcomeCompleted, results)
	}
	again := s.FailedRetirements > 0
	run.count(s, cause)
	s.pause(run.role, max(s.FailedRetirements, 1))
	if again && len(retired) == 0 {
		return nil
	}
	return run.note(s, OutcomeFailed, results, cause)
}

// startAtEnd plans the next automatic rotation for the end of the overlap that it has
// waited for, from which its lateness counts. A window stays where its schedule has it.
func (s *State) startAtEnd(retired *Secret) {
	end := retired.Previous.ends()
	if !retired.ShownOnce && !s.NextRotation.IsZero() && s.NextRotation.Before(end) && s.Policy.Window == 0 {
		s.NextRotation = end
	}
}

// fate says what became of a value that was retired.
func (run *Run) fate(secret string, version int) string {
	for _, step := range run.steps[secret] {
		if step.Unproven != "" {
			return fmt.Sprintf("secret %s: version %d was made unusable and is destroyed; its refusal is %s", secret, version, step.Unproven)
		}
	}
	if t := run.accepting(secret); t != nil {
		return fmt.Sprintf("secret %s: version %d is destroyed, but an application accepts it: %s: %s", secret, version, t.Name, t.Detail)
	}
	return fmt.Sprintf("secret %s: version %d is refused and destroyed", secret, version)
}

// waitNoMore ends the wait for those who use the values that are left: an attempt to
// retire one may have made it unusable already, whatever its target answered.
func (run *Run) waitNoMore(s *State) {
	for _, name := range run.op.Secrets {
		secret := s.Secrets[name]
		if secret == nil || secret.Previous == nil {
			continue
		}
		previous := *secret.Previous
		secret.decide(&previous)
		secret.Previous = &previous
	}
}

// revoke retires the values that the rotation has just replaced, in the same
// run. The rotation itself is committed whatever happens here.
func (run *Run) revoke(ctx context.Context) {
	retirement := run.role.newRun(Request{
		Kind: KindRetire, Trigger: run.op.Trigger, Actor: run.op.Actor, Reason: run.op.Reason,
	})
	retirement.op.Secrets = run.role.Snapshot().expired(run.role.engine.Now())
	if err := retirement.retire(ctx); err != nil {
		run.record.Issues = append(run.record.Issues, fmt.Sprintf("previous values are not revoked yet: %v", err))
	}
	run.record.Issues = append(run.record.Issues, retirement.left...)
}

// tellNeeded notes who still needed a value that was retired, for the record.
func (run *Run) tellNeeded(results []SecretResult, secret *Secret) {
	names := secret.Previous.WaitsFor
	if len(names) == 0 {
		return
	}
	how, forced := "when its wait ended", secret.forced()
	if forced {
		how = "by force"
	}
	run.found(fmt.Sprintf("secret %s: version %d was retired %s, although it was still needed by: %s", secret.Name, secret.Previous.Version, how, strings.Join(names, ", ")))
	for i := range results {
		if results[i].Secret == secret.Name {
			results[i].NeededBy, results[i].Forced = names, forced
		}
	}
}

// leave does what is configured about those who use a value that was just retired,
// and tells of it.
func (run *Run) leave(ctx context.Context, secret Secret) error {
	drainer, ok := run.driver(secret).(Drainer)
	if !ok {
		return nil
	}
	if end, _ := drainer.OverlapEnd(secret); end != TerminateAtEnd {
		run.countLeft(ctx, drainer, secret)
		return nil
	}
	return run.step(ctx, secret.Name, "terminate", func(ctx context.Context) error {
		ended, err := drainer.Terminate(ctx, secret, run.fence)
		if err == nil {
			run.tell(secret, fmt.Sprintf("open sessions that the engine terminated: %d", ended))
		}
		return err
	})
}

// countLeft tells how many sessions go on. Nothing depends on it: they may not be
// visible.
func (run *Run) countLeft(ctx context.Context, drainer Drainer, secret Secret) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	waited := ""
	if secret.waited() {
		waited = ", after the engine had waited for them until " + secret.Previous.RetireTime.Format(time.RFC3339)
	}
	left, err := drainer.Sessions(ctx, secret)
	switch {
	case err != nil:
	case left > 0:
		run.tell(secret, fmt.Sprintf("sessions that go on until they end by themselves%s: %d", waited, left))
	case waited != "":
		run.tell(secret, "its sessions have ended"+waited)
	}
}

// tell notes what became of the sessions of a retired value.
func (run *Run) tell(secret Secret, what string) {
	text := fmt.Sprintf("secret %s: version %d is retired; %s", secret.Name, secret.Previous.Version, what)
	run.left = append(run.left, text)
	run.found(text)
}
