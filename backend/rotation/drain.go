package rotation

import (
	"context"
	"fmt"
	"time"
)

// OverlapEnd is what is done about those who still use a value when its overlap
// ends.
type OverlapEnd string

// What can be done about them.
const (
	// RetireAtEnd: nobody can begin to use the value any more; who has begun goes on.
	RetireAtEnd OverlapEnd = "retire"
	// WaitAtEnd: the overlap lasts until nobody uses the value, but not for ever.
	WaitAtEnd OverlapEnd = "wait"
	// TerminateAtEnd: as RetireAtEnd, and then who has begun is ended.
	TerminateAtEnd OverlapEnd = "terminate"
)

// Drainer is a Driver of values that are in use for longer than the moment in which
// they are tried, as a login is by its sessions.
type Drainer interface {
	Driver
	// OverlapEnd returns what is to be done at the end of an overlap of s, and how
	// long to wait at most.
	OverlapEnd(s Secret) (end OverlapEnd, timeout time.Duration)
	// Sessions counts the sessions that use s.Previous, as far as they can be seen.
	Sessions(ctx context.Context, s Secret) (int, error)
	// Terminate ends those sessions, and returns how many there were. Doing it twice
	// is as good as once.
	Terminate(ctx context.Context, s Secret, fence Fence) (int, error)
}

// drainPause is how long to wait before looking again whether a value is in use.
const drainPause = 15 * time.Second

// drain takes out of the operation the secrets whose previous values are in use and
// are to be waited for. Waiting is to move the end of the overlap, in storage: no
// worker is kept busy, another node goes on with it, and whatever holds in an
// overlap holds on.
func (run *Run) drain(ctx context.Context) error {
	var due []string
	waits := map[string]time.Time{}
	for _, name := range run.op.Secrets {
		if until := run.waitsUntil(ctx, name); until.IsZero() {
			due = append(due, name)
		} else {
			waits[name] = until
		}
	}
	if len(waits) == 0 {
		return nil
	}
	run.op.Secrets = due
	run.describe()
	return run.role.update(ctx, func(s *State) error { return run.extend(s, waits) })
}

// waitsUntil is when the wait for those who use the previous value of a secret ends
// at the latest; zero if there is nothing to wait for. A server that can't be asked
// is not waited for: retiring asks it as well.
func (run *Run) waitsUntil(ctx context.Context, name string) time.Time {
	secret, now := run.secret(name), run.role.engine.Now()
	drainer, ok := run.driver(secret).(Drainer)
	if !ok || secret.Previous == nil {
		return time.Time{}
	}
	end, timeout := drainer.OverlapEnd(secret)
	until := run.drainUntil(secret.Previous, timeout)
	if end != WaitAtEnd || !now.Before(until) {
		return time.Time{}
	}
	sessions := 0
	err := run.step(ctx, name, "look", func(ctx context.Context) (err error) {
		sessions, err = drainer.Sessions(ctx, secret)
		return err
	})
	if err != nil {
		run.found(fmt.Sprintf("secret %s: the engine does not wait for sessions of version %d, because it could not look at them: %v", name, secret.Previous.Version, err))
	}
	if err != nil || sessions == 0 {
		return time.Time{}
	}
	return until
}

// drainUntil is the end of the wait: it is set when the wait begins, and so that no
// scheduled rotation is held up.
func (run *Run) drainUntil(previous *Value, timeout time.Duration) time.Time {
	if !previous.DrainUntil.IsZero() {
		return previous.DrainUntil
	}
	until, s := previous.RetireTime.Add(timeout), run.role.Snapshot()
	if s.Policy.AutoRotate && !s.NextRotation.IsZero() && s.NextRotation.Before(until) {
		return s.NextRotation
	}
	return until
}

// extend is the change that lets overlaps go on for a while.
func (run *Run) extend(s *State, waits map[string]time.Time) error {
	next := run.role.engine.Now().UTC().Add(drainPause).Truncate(time.Second)
	for name, until := range waits {
		secret := s.Secrets[name]
		if secret == nil || secret.Previous == nil {
			continue
		}
		previous := *secret.Previous
		previous.DrainUntil, previous.RetireTime = until, next
		if next.After(until) {
			previous.RetireTime = until
		}
		secret.Previous = &previous
	}
	return nil
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
	if previous := secret.Previous; previous.DrainUntil.After(previous.Replaced) {
		waited = ", after the engine had waited for them until " + previous.RetireTime.Format(time.RFC3339)
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

// CutOver is when the current value took the place of the previous one. Of values
// stored in format 1 it is a time before that: when the current one was made.
func (s *Secret) CutOver() time.Time {
	if s.Previous == nil || s.Previous.Replaced.IsZero() {
		return s.Current.Created
	}
	return s.Previous.Replaced
}
