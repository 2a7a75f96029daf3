package rotation

import (
	"context"
	"errors"
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

const (
	// drainPause is how long after a look the engine looks again whether somebody needs the
	// value.
	drainPause = 15 * time.Second
	// lookAhead is how long before the end of an overlap the engine looks whether to put it
	// off, so that the value is valid throughout.
	lookAhead = 5 * time.Second
	// lookBehind is how long after the end of an overlap a wait may begin for a value other
	// than a login: one that was refused for longer does not become valid again.
	lookBehind = time.Minute
	// openSessions is who needs a previous login.
	openSessions = "open sessions of the previous login"
)

// patient reports whether overlaps go on while somebody needs them.
func (t ResolvedPolicy) patient() bool { return t.OverlapLimit > t.Overlap }

// waits reports whether the overlap of a previous value goes on beyond its time. Earlier
// versions had no LookTime: they moved RetireTime up to DrainUntil.
func (v *Value) waits() bool { return !v.LookTime.IsZero() || v.DrainUntil.After(v.RetireTime) }

// undecided reports whether the engine has yet to look, or to look again, whether somebody
// needs a previous value.
func (v *Value) undecided() bool {
	return !v.Held() && (v.DrainUntil.IsZero() || v.waits())
}

// beforeNext cuts the end of a wait at the next automatic rotation, which no wait holds up.
func (s *Snapshot) beforeNext(end time.Time) time.Time {
	if next := s.NextRotation; s.Policy.AutoRotate && !next.IsZero() && next.Before(end) {
		return next
	}
	return end
}

// retireAt is when the engine has to see to the end of an overlap.
func (s *Snapshot) retireAt(previous *Value) time.Time {
	if end := s.beforeNext(previous.RetireTime); !previous.LookTime.IsZero() {
		return sooner(previous.LookTime, end)
	}
	if !previous.undecided() || !s.Resolved.patient() {
		return previous.ends()
	}
	return previous.RetireTime.Add(-min(lookAhead, s.Resolved.Overlap/4))
}

// retireAction is the same, but a value that could not be retired is tried again after a
// pause. No look is held up by that.
func (s *Snapshot) retireAction(previous *Value) time.Time {
	if previous.undecided() {
		return s.retireAt(previous)
	}
	return later(s.retireAt(previous), s.RetryAt)
}

// ending lists the secrets whose overlap the engine has to see to.
func (s *Snapshot) ending(now time.Time) []string {
	var names []string
	for _, name := range s.Names() {
		if previous := s.Secrets[name].Previous; previous != nil && !now.Before(s.retireAction(previous)) {
			names = append(names, name)
		}
	}
	return names
}

// drain takes out of the operation the secrets whose previous values somebody needs, and
// those whose overlap has not ended yet. Waiting is two times in storage, the latest end of
// the overlap and when to look again: no worker is kept busy, another node goes on with it,
// and however late a look comes, whatever holds in an overlap holds on. Memory is asked
// first, and what is asked of servers is put off meanwhile: a server that does not answer
// takes no value from readers.
func (run *Run) drain(ctx context.Context) error {
	ends, unneeded := map[string]time.Time{}, map[string]bool{}
	for _, name := range run.op.Secrets {
		if previous := run.secret(name).Previous; previous != nil && !previous.waits() {
			ends[name] = previous.RetireTime
		}
	}
	err := run.leaveOut(ctx, func(secret Secret) (change func(*Value), out bool) {
		if !run.mayWait(secret) || run.late(secret) {
			return nil, false
		}
		names := run.waitedFor(secret)
		if len(names) == 0 && (!run.looks(secret) || !secret.Previous.LookTime.IsZero()) {
			return nil, false
		}
		return run.wait(secret, names), len(names) > 0
	})
	if err != nil {
		return err
	}
	err = run.leaveOut(ctx, func(secret Secret) (change func(*Value), out bool) {
		if !run.mayWait(secret) {
			return nil, false
		}
		names := run.inUse(ctx, secret)
		if run.late(secret) {
			names = append(run.waitedFor(secret), names...)
		}
		if len(names) == 0 {
			unneeded[secret.Name] = true
			return nil, false
		}
		if run.late(secret) && run.refusesPrevious(ctx, secret) {
			return nil, false
		}
		return run.wait(secret, names), true
	})
	if err != nil {
		return err
	}
	return run.waitNoLonger(ctx, ends, unneeded)
}

// wait has an overlap go on for those names, as far as they are known yet.
func (run *Run) wait(secret Secret, names []string) func(*Value) {
	until := run.waitEnd(secret)
	return func(previous *Value) {
		previous.RetireTime, previous.LookTime = until, sooner(run.now().Add(drainPause), until)
		if len(names) > 0 {
			previous.DrainUntil, previous.WaitsFor = until, few(names)
		}
	}
}

// waitNoLonger has the overlaps end that nobody needs any more: those that were waited for
// now, and those that were not at their ends. Where readers could not read, it goes on.
func (run *Run) waitNoLonger(ctx context.Context, ends map[string]time.Time, unneeded map[string]bool) error {
	return run.leaveOut(ctx, func(secret Secret) (change func(*Value), out bool) {
		at, first := ends[secret.Name]
		early := first && at.After(run.role.engine.Now())
		if !early {
			at = run.now()
		}
		until := run.prolonged(ctx, secret, at)
		goesOn := early || !until.IsZero()
		if !goesOn && !secret.Previous.waits() {
			return nil, false
		}
		return func(previous *Value) {
			previous.RetireTime = sooner(at, previous.RetireTime)
			if unneeded[secret.Name] {
				previous.WaitsFor = nil
			}
			if until.IsZero() {
				secret.decide(previous)
			} else {
				secret.prolong(previous, until, run.now())
			}
		}, goesOn
	})
}

// decide notes on the previous value of s that nobody is waited for any more, nor readers.
func (s *Secret) decide(previous *Value) {
	decided := s.CutOver()
	if s.waited() {
		decided = previous.RetireTime
	}
	previous.LookTime, previous.DrainUntil = time.Time{}, sooner(decided, previous.RetireTime)
	previous.Prolonged.Final = !previous.Prolonged.At.IsZero()
}

// leaveOut changes the previous values of the operation's secrets as decide says, and
// takes those out of the operation that it says.
func (run *Run) leaveOut(ctx context.Context, decide func(Secret) (change func(*Value), out bool)) error {
	changes, left := map[string]func(*Value){}, []string{}
	for _, name := range run.op.Secrets {
		secret, out := run.secret(name), false
		if secret.Previous != nil {
			var change func(*Value)
			if change, out = decide(secret); change != nil {
				changes[name] = change
			}
		}
		if !out {
			left = append(left, name)
		}
	}
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case len(changes) == 0:
		return nil
	}
	run.op.Secrets = left
	run.describe()
	return run.role.update(ctx, func(s *State) error {
		for name, change := range changes {
			if secret := s.Secrets[name]; secret != nil && secret.Previous != nil {
				previous := *secret.Previous
				change(&previous)
				secret.Previous = &previous
			}
		}
		return nil
	})
}

// mayWait reports whether the overlap of a secret may go on.
func (run *Run) mayWait(secret Secret) bool {
	previous, now := secret.Previous, run.role.engine.Now()
	switch {
	case !previous.undecided():
		return false // readers were told that it ends, or has ended
	case previous.waits():
		return run.waitEnd(secret).After(now)
	case now.Sub(previous.RetireTime) > lookBehind && !run.late(secret):
		return false
	}
	return run.waitEnd(secret).After(later(previous.RetireTime, now))
}

// late reports whether the end of an overlap has passed without a look, of a login that its
// server may still accept. For that, a wait may begin as late as it may last.
func (run *Run) late(secret Secret) bool {
	previous := secret.Previous
	return !previous.waits() && !run.role.engine.Now().Before(previous.RetireTime) && run.looks(secret) && !run.driver(secret).CutsOver(secret)
}

// refusesPrevious reports whether the target refuses a value whose overlap has ended: what
// was made unusable meanwhile is not given to readers again.
func (run *Run) refusesPrevious(ctx context.Context, secret Secret) bool {
	return !run.local(secret) && errors.Is(run.step(ctx, secret.Name, "probe", func(ctx context.Context) error {
		return run.driver(secret).Probe(ctx, secret, secret.Previous.Material)
	}), ErrRefused)
}

// waitEnd is when the overlap of a secret ends at the latest: at the role's limit, or when
// its driver has waited for as long as it may, whichever is later, but so that no scheduled
// rotation is held up. It is fixed when the wait begins, and moves only with the schedule.
// Zero if nobody is waited for.
func (run *Run) waitEnd(secret Secret) time.Time {
	previous, s := secret.Previous, run.role.Snapshot()
	timeout, drains := run.drainTimeout(secret)
	if !drains && !s.Resolved.patient() {
		return time.Time{}
	}
	until := later(previous.RetireTime, previous.DrainUntil)
	if !previous.waits() {
		if s.Resolved.patient() {
			until = later(until, secret.CutOver().Add(s.Resolved.OverlapLimit))
		}
		if drains {
			until = later(until, previous.RetireTime.Add(timeout))
		}
	}
	return s.beforeNext(until)
}

// looks reports whether the server of a secret is to be asked.
func (run *Run) looks(secret Secret) bool {
	_, ok := run.driver(secret).(Drainer)
	return ok
}

// drainTimeout is how long sessions of a secret are waited for; false if its configuration
// does not say that they are.
func (run *Run) drainTimeout(secret Secret) (time.Duration, bool) {
	drainer, ok := run.driver(secret).(Drainer)
	if !ok {
		return 0, false
	}
	end, timeout := drainer.OverlapEnd(secret)
	return timeout, end == WaitAtEnd
}

// waitedFor names who is known to need the previous value of a secret, if the role's overlaps
// go on for them.
func (run *Run) waitedFor(secret Secret) []string {
	if !run.role.Snapshot().Resolved.patient() {
		return nil
	}
	return run.dependents(secret)
}

// dependents names who is known to need the previous value of a secret. Nobody can need
// one that died when the current one was set.
func (run *Run) dependents(secret Secret) []string {
	known := run.role.engine.Dependents
	if known == nil || run.driver(secret).CutsOver(secret) {
		return nil
	}
	return known(run.role, &secret)
}

// inUse names the open sessions of a secret, if there are any. A server that can't be
// asked is waited for within the role's limit only: retiring asks it as well.
func (run *Run) inUse(ctx context.Context, secret Secret) []string {
	sessions, err := run.sessions(ctx, secret)
	switch {
	case err != nil && run.role.Snapshot().Resolved.patient():
		return []string{uncounted(err)}
	case err != nil:
		run.found(fmt.Sprintf("secret %s: the engine does not wait for sessions of version %d, because it could not look at them: %v", secret.Name, secret.Previous.Version, err))
	case sessions > 0:
		return []string{openSessions}
	}
	return nil
}

// sessions counts the sessions that use the previous value of a secret.
func (run *Run) sessions(ctx context.Context, secret Secret) (sessions int, err error) {
	drainer, ok := run.driver(secret).(Drainer)
	if !ok {
		return 0, nil
	}
	err = run.step(ctx, secret.Name, "look", func(ctx context.Context) (err error) {
		sessions, err = drainer.Sessions(ctx, secret)
		return err
	})
	return sessions, err
}

// uncounted is what stands for sessions that could not be counted.
func uncounted(err error) string {
	if failed := (*StepError)(nil); errors.As(err, &failed) {
		err = failed.Err
	}
	return fmt.Sprintf("%s, which the engine could not count (%v)", openSessions, err)
}

// CutOver is when the current value took the place of the previous one. Of values
// stored in format 1 it is a time before that: when the current one was made.
func (s *Secret) CutOver() time.Time {
	if s.Previous == nil || s.Previous.Replaced.IsZero() {
		return s.Current.Created
	}
	return s.Previous.Replaced
}

// waited reports whether the overlap of s was put off.
func (s *Secret) waited() bool { return s.Previous.DrainUntil.After(s.CutOver()) }

// forced reports whether a person ended the overlap of s for those who need it.
func (s *Secret) forced() bool { return len(s.Previous.WaitsFor) > 0 && !s.waited() }
