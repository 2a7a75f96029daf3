package rotation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A secret is unresolved when its target may hold a value that is not the current
// one, and could not be put back: it refuses that, or can't be reached. The operation
// ends all the same, and with it everything that others would wait for. The secret
// alone is tried again: first by putting its target back, and where that is refused
// and readers are without a value that works, by going forward with what it accepts.
//
//	undo fails ──▶ unresolved ──put back──▶ as before
//	                 │  ▲  └──refuses current, accepts the other──▶ committed
//	                 └──┘ neither: again after a pause

// maxResolvePause is how long an unresolved secret, or an operation that was interrupted,
// waits at most: readers may be without a value that works until then.
const maxResolvePause = 30 * time.Second

// Unresolved lists the secrets that are unresolved.
func (s *State) Unresolved() []string {
	return slices.DeleteFunc(s.Names(), func(name string) bool { return s.Secrets[name].Unresolved == nil })
}

// unresolved ends a run that could not put these targets back. All others are.
func (run *Run) unresolved(ctx context.Context, cause error, failed map[string]error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	names := slices.Sorted(maps.Keys(failed))
	for _, name := range names {
		run.found(fmt.Sprintf("secret %s is unresolved; the engine could not put its target back: %v", name, failed[name]))
	}
	run.lost = names
	err := run.role.update(ctx, func(s *State) error {
		for _, name := range names {
			if secret := s.Secrets[name]; secret != nil && run.owns(s) {
				secret.Unresolved = run.leaves(secret, failed[name])
			}
		}
		return run.drop(s, OutcomeFailed, cause)
	})
	if err != nil {
		return run.failure(OutcomeFailed, errors.Join(cause, err), nowUnsaved)
	}
	for _, name := range names {
		cause = errors.Join(cause, failed[name])
	}
	return run.failure(OutcomeFailed, cause, nowUnresolved(run.role.Name, names))
}

// leaves describes what is left of this run's operation on one secret.
func (run *Run) leaves(secret *Secret, cause error) *Unresolved {
	op := run.op
	if len(op.Secrets) > 1 {
		op.RequestID = "" // a part is no answer to who asked for the whole
	}
	op.ID, op.Secrets = run.role.engine.NewID(), []string{secret.Name}
	now := run.now()
	return &Unresolved{
		Value: secret.Pending, Operation: op, Since: now, Cause: cause.Error(),
		RetryAt: now.Add(run.resolvePause(1)),
	}
}

func (run *Run) resolvePause(attempts int) time.Duration {
	return min(run.role.Snapshot().Resolved.retryPause(run.role.Key, attempts), maxResolvePause)
}

// nowUnresolved says what is true after a failure that left secrets unresolved.
func nowUnresolved(role string, names []string) string {
	return fmt.Sprintf("It is not known whether the target of %s holds the new value or the current one. Readers keep the current one; everything else is as before. The engine tries again every half minute or sooner, until the cause is gone; read status. To try now, write verify/%s with repair=true",
		strings.Join(names, ", "), role)
}

// resolve tries to resolve what is unresolved and in the way of this run.
func (run *Run) resolve(ctx context.Context) error {
	for _, name := range run.role.Snapshot().Names() {
		secret := run.role.Snapshot().Secrets[name]
		if secret == nil || secret.Unresolved == nil || !run.concerns(secret) {
			continue
		}
		recovery := run.takeOver(&secret.Unresolved.Operation)
		recovery.resolving = true
		err := recovery.resolveSecret(ctx, *secret)
		if ctx.Err() != nil {
			return errInterrupted
		}
		if errors.Is(err, ErrStorage) {
			return err
		}
	}
	return nil
}

// concerns reports whether an unresolved secret is to be resolved before this run
// does anything: because it is time to, or because the run is about that secret.
func (run *Run) concerns(secret *Secret) bool {
	switch run.op.Kind {
	case KindRecover:
		return !run.role.engine.Now().Before(secret.Unresolved.RetryAt)
	case KindRetire, KindPostCommit, KindMove:
		return false
	case KindCreate, KindImport:
		return run.added.Name == secret.Name
	}
	return len(run.op.Secrets) == 0 || slices.Contains(run.op.Secrets, secret.Name)
}

// resolveSecret makes an end of one secret, or plans the next attempt.
func (run *Run) resolveSecret(ctx context.Context, secret Secret) error {
	forward, err := run.direction(ctx, secret)
	switch {
	case err == nil && !forward:
		if err = run.mendPrevious(ctx, secret); err == nil {
			return run.endResolved(ctx)
		}
		fallthrough
	case err != nil:
		return run.resolveLater(ctx, err)
	}
	err = run.setAndTest(ctx, secret.Name)
	if errors.Is(err, ErrUnchanged) { // it will not be given again what it has
		err = run.step(ctx, secret.Name, "test", func(ctx context.Context) error { return run.prove(ctx, run.secret(secret.Name)) })
	}
	if err == nil {
		err = run.createNextAgain(ctx)
	}
	if err != nil {
		return run.resolveLater(ctx, err)
	}
	run.found(fmt.Sprintf("secret %s was unresolved since %s; its target has the new value, so the engine went forward",
		secret.Name, secret.Unresolved.Since.Format(time.RFC3339)))
	return run.commit(ctx)
}

// direction puts the target back, or says that the only way is forward: it has the
// first value there is, or will not be put back and refuses what readers are given.
func (run *Run) direction(ctx context.Context, secret Secret) (forward bool, err error) {
	if secret.Current == nil && !run.unreceived() {
		if err := run.accepts(ctx, secret.Name); !errors.Is(err, ErrRefused) {
			return true, err
		}
	}
	accepts, err := run.putBack(ctx, run.secret(secret.Name))
	if secret.Current == nil || run.unreceived() || !accepts {
		return false, err
	}
	if current := run.refusesCurrent(ctx, secret.Name); !errors.Is(current, ErrRefused) {
		return false, err
	}
	return true, nil
}

// askedEvery is after how many attempts a target that still refuses to be put back is
// asked again which values it accepts. It refuses some of them, and may count that.
const askedEvery = 60

// asks reports whether the target of a secret is asked for its values after it refused
// to be put back: as long as it goes on to, the answers stay what they were.
func (run *Run) asks(secret Secret) bool {
	return !run.resolving || secret.Unresolved.Attempts < 2 || secret.Unresolved.Attempts%askedEvery == 0
}

// refusesCurrent asks the target of a secret for the value that readers are given.
func (run *Run) refusesCurrent(ctx context.Context, name string) error {
	secret := run.secret(name)
	return run.step(ctx, name, "probe", func(ctx context.Context) error {
		return run.driver(secret).Probe(ctx, secret, secret.Current.Material)
	})
}

// mendPrevious makes the target accept the previous value of a secret whose current one
// it accepts, if readers are given it: what could not be put back may have taken its
// place.
func (run *Run) mendPrevious(ctx context.Context, secret Secret) error {
	for _, v := range run.role.engine.offered(secret) {
		if v == secret.Current {
			continue
		}
		if err := run.mend(ctx, secret, v); err != nil {
			return err
		}
	}
	return nil
}

// endResolved ends what was unresolved of a secret whose target was put back.
func (run *Run) endResolved(ctx context.Context) error {
	return run.role.update(ctx, func(s *State) error {
		if !run.owns(s) {
			return errSuperseded
		}
		results := run.results(s)
		name := run.op.Secrets[0]
		secret := s.Secrets[name]
		cause := fmt.Errorf("secret %s was unresolved since %s; the engine has put its target back", name, secret.Unresolved.Since.Format(time.RFC3339))
		secret.Unresolved = nil
		if secret.Current == nil {
			delete(s.Secrets, name)
		}
		if s.Failures == 0 && !s.NeedsAttention {
			s.LastError = ""
		}
		if err := run.place(s); err != nil { // it may be reached elsewhere since
			return err
		}
		return run.note(s, OutcomeRolledBack, results, cause)
	})
}

// resolveLater plans the next attempt.
func (run *Run) resolveLater(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	err := run.role.update(ctx, func(s *State) error {
		if !run.owns(s) {
			return errSuperseded
		}
		secret := s.Secrets[run.op.Secrets[0]]
		left := *secret.Unresolved
		left.Attempts++
		left.Cause, left.RetryAt = cause.Error(), run.now().Add(run.resolvePause(left.Attempts+1))
		secret.Unresolved = &left
		return nil
	})
	return errors.Join(cause, err)
}

// heldUp refuses a run that is about a secret which is unresolved still: what its
// target may hold must not be forgotten.
func (run *Run) heldUp(ctx context.Context) error {
	if run.op.Kind == KindRetire || run.op.Kind == KindPostCommit || run.op.Kind == KindMove {
		return nil
	}
	s := run.role.Snapshot()
	var causes, others []string
	for _, name := range s.Names() {
		switch left := s.Secrets[name].Unresolved; {
		case left == nil:
			others = append(others, name)
		case slices.Contains(run.op.Secrets, name):
			causes = append(causes, fmt.Sprintf("secret %s is unresolved since %s: %s", name, left.Since.Format(time.RFC3339), left.Cause))
		}
	}
	if len(causes) == 0 {
		return nil
	}
	cause := errors.New(strings.Join(causes, "; "))
	if len(others) > 0 {
		cause = fmt.Errorf("%w; to go on with the others, add secrets=%s", cause, strings.Join(others, ","))
	}
	return run.fail(ctx, cause)
}
