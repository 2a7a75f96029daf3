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

// transact is the transaction. Until intend has saved what is about to happen,
// nothing outside is touched; after commit has returned, everybody reads the new
// values; in between, every failure leads through undo, and every crash through
// recover, to one of these two ends.
func (run *Run) transact(ctx context.Context) error {
	if err := run.prepare(ctx); err != nil {
		return run.fail(ctx, err)
	}
	if err := run.create(ctx); err != nil {
		return run.fail(ctx, err)
	}
	if err := run.look(ctx); err != nil {
		return run.fail(ctx, err)
	}
	if err := run.intend(ctx); err != nil {
		return run.refuse(err)
	}
	for _, name := range run.targets {
		if err := run.setAndTest(ctx, name); err != nil {
			return run.undo(ctx, err)
		}
	}
	if err := run.receive(); err != nil {
		return run.undo(ctx, err)
	}
	if err := run.commit(ctx); err != nil {
		return err
	}
	if err := run.reveal(ctx); err != nil {
		return err
	}
	if run.op.RevokePrevious {
		run.revoke(ctx)
	}
	return nil
}

// create makes the pending values, without side effects.
func (run *Run) create(ctx context.Context) error {
	run.pending, run.next = map[string]*Value{}, map[string]*Value{}
	for _, name := range run.op.Secrets {
		secret := run.secret(name)
		err := run.step(ctx, name, "create", func(ctx context.Context) error {
			value, err := run.newValue(ctx, secret)
			run.pending[name] = run.conceal(secret, value)
			if err != nil {
				return err
			}
			return run.createNext(ctx, secret)
		})
		if err != nil {
			return err
		}
	}
	run.order()
	return nil
}

// newValue is the value that is to become current.
func (run *Run) newValue(ctx context.Context, secret Secret) (*Value, error) {
	if run.op.Kind == KindRollback {
		return &Value{Material: secret.Previous.Material, Created: secret.Previous.Created, Supplied: secret.Previous.Supplied, Unreceived: secret.Previous.Unreceived}, nil
	}
	if run.op.Kind == KindImport {
		return &Value{Material: run.supplied, Created: run.now(), Supplied: true}, nil
	}
	if value := run.published(secret); value != nil {
		return value, nil
	}
	material, err := run.driver(secret).Create(ctx, secret)
	if err != nil {
		return nil, err
	}
	return &Value{Material: material, Created: run.now(), Published: run.unseen(secret)}, nil
}

// now is the time in whole seconds, which is what states are made of.
func (run *Run) now() time.Time { return run.role.engine.Now().UTC().Truncate(time.Second) }

// order makes the targets of what the operation works on.
func (run *Run) order() { run.targets = run.role.engine.Order(run.op.Secrets, run.secret) }

// Order returns the names in the order in which a rotation sets the secrets: those
// whose current value dies when the pending one is set come last, so that their
// readers are without a working value for as short as can be.
func (e *Engine) Order(names []string, secret func(name string) Secret) []string {
	var first, last []string
	for _, name := range names {
		s := secret(name)
		if e.Drivers[s.Type].CutsOver(s) {
			last = append(last, name)
		} else {
			first = append(first, name)
		}
	}
	return append(first, last...)
}

// intend saves the pending values and the operation. A node that cannot write
// must not change a target: its state may be stale.
func (run *Run) intend(ctx context.Context) error {
	if err := run.role.flush(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	pruned, err := run.role.prunable(ctx)
	if err != nil {
		return err
	}
	err = run.role.update(ctx, func(s *State) error {
		if s.InFlight != nil {
			return fmt.Errorf("%w: %s %s", ErrInFlight, s.InFlight.Kind, s.InFlight.ID)
		}
		if run.added != nil {
			added := *run.added
			s.Secrets[added.Name] = &added
		}
		for name, value := range run.pending {
			if s.Secrets[name] == nil {
				return fmt.Errorf("%w: secret %q was deleted", ErrInvalid, name)
			}
			s.Secrets[name].Pending = value
		}
		run.endOverlaps(s)
		op := run.op
		s.InFlight = &op
		if err := run.complete(s); err != nil {
			return err
		}
		if pruned != nil {
			if err := run.role.cut(s, pruned); err != nil {
				return err
			}
		}
		if run.added != nil {
			return s.checkDescribed(run.role.Name, run.role.Snapshot().State)
		}
		return run.checkEnd(s)
	})
	if err != nil {
		return err
	}
	run.warnDisplaced()
	run.warnUnseen()
	if pruned == nil {
		return nil
	}
	if err := run.role.prune(ctx, pruned.Last); err != nil {
		run.issues = append(run.issues, err.Error())
	}
	return nil
}

// warnDisplaced notes the overlaps that this rotation ends before their time.
func (run *Run) warnDisplaced() {
	now, ended := run.role.engine.Now(), map[string][]string{}
	for _, name := range run.targets {
		secret := run.secret(name)
		previous := secret.PreviousAt(now)
		if previous == nil || run.op.RevokePrevious || run.op.Kind == KindRollback || run.driver(secret).CutsOver(secret) {
			continue
		}
		if secret.inUse(now) != nil {
			run.found(fmt.Sprintf("secret %s: nobody was given version %d, so this rotation drops it; version %d, which is in use, has an overlap again", name, secret.Current.Version, previous.Version))
			continue
		}
		overlap := fmt.Sprintf("version %d, was valid until %s", previous.Version, previous.RetireTime.Format(time.RFC3339))
		ended[overlap] = append(ended[overlap], name)
	}
	for _, overlap := range slices.Sorted(maps.Keys(ended)) {
		run.issues = append(run.issues, fmt.Sprintf("secret %s: the previous value, %s; this rotation ended that early", strings.Join(ended[overlap], ", "), overlap))
	}
}

// warnNewer notes that this rollback undoes an earlier one: of the two values that a secret
// has, it makes the newer one current.
func (run *Run) warnNewer(s *State) {
	if run.op.Kind != KindRollback {
		return
	}
	var newer, of []string
	for _, name := range run.op.Secrets {
		if secret := s.Secrets[name]; secret.Previous != nil && secret.Previous.Created.After(secret.Current.Created) {
			newer, of = append(newer, name), append(of, fmt.Sprintf("%s has that of version %d", name, secret.Previous.Version))
		}
	}
	if len(newer) == 0 {
		return
	}
	again := ""
	if len(newer) < len(s.Secrets) {
		again = " with secrets=" + strings.Join(newer, ",")
	}
	run.found(fmt.Sprintf("this rollback undid an earlier one: with version %d, the values that the earlier one had replaced are current again (%s). To undo this rollback, write rollback/%s%s", s.Version+1, strings.Join(of, ", "), run.role.Name, again))
}

// warnUnwatched notes that what follows an earlier commit ends with this one.
func (run *Run) warnUnwatched(s *State) {
	if f := s.PostCommit; f != nil && run.op.Follows != f.ID {
		run.found(fmt.Sprintf("the steps after %s %s were not finished; this operation ended them", f.Kind, f.ID))
	}
}

// setAndTest makes the target accept the pending value and proves it by use. An
// imported value is already in use and is only proven.
func (run *Run) setAndTest(ctx context.Context, name string) error {
	secret := run.secret(name)
	driver, material := run.driver(secret), secret.Pending.Material
	if run.op.Kind != KindImport {
		run.touched = append(run.touched, name)
		err := run.step(ctx, name, "set", func(ctx context.Context) error {
			return driver.Set(ctx, secret, material, run.fence)
		})
		if errors.Is(err, ErrUnchanged) || run.local(secret) {
			run.touched = run.touched[:len(run.touched)-1]
		}
		if err != nil {
			return err
		}
	}
	return run.step(ctx, name, "test", func(ctx context.Context) error {
		return run.prove(ctx, secret)
	})
}

// local reports whether the values of a secret are at no target.
func (run *Run) local(secret Secret) bool {
	local, ok := run.driver(secret).(Local)
	return ok && local.Local()
}

// prove uses the pending value of a secret where its target is now. Where it is used
// belongs to the value: it is committed with the way on which it was proven.
func (run *Run) prove(ctx context.Context, secret Secret) error {
	engine := run.role.engine
	at, err := engine.place(secret, secret.Pending)
	if err != nil {
		return err
	}
	if err := run.driver(secret).Test(ctx, secret, at.Material); err != nil {
		return err
	}
	if now, err := engine.place(secret, at); err != nil || now != at {
		return errors.Join(err, fmt.Errorf("%w: somebody changed how the target is reached meanwhile", ErrRefused))
	}
	if run.proven == nil {
		run.proven = map[string]*Value{}
	}
	run.proven[secret.Name] = at
	return nil
}

// fence writes the state once more, which only the node that may write can do,
// and only while the operation in flight is this one.
func (run *Run) fence(ctx context.Context) error {
	return run.role.update(ctx, func(s *State) error {
		if !run.owns(s) {
			return errSuperseded
		}
		return nil
	})
}

// owns reports whether the stored operation is the one of this run: in flight, or
// what is left to be resolved of one.
func (run *Run) owns(s *State) bool {
	if run.resolving {
		secret := s.Secrets[run.op.Secrets[0]]
		return s.InFlight == nil && secret != nil && secret.Unresolved != nil && secret.Unresolved.Operation.ID == run.op.ID
	}
	return s.InFlight != nil && s.InFlight.ID == run.op.ID
}

// errSuperseded says that the stored operation is not the one of this run.
var errSuperseded = errors.New("another node has taken over this operation")

// commitAttempts is how often the commit is tried when storage fails: at that
// point going on is better than going back.
const commitAttempts = 3

// commit makes the pending values current, for all secrets, in one write.
func (run *Run) commit(ctx context.Context) error {
	err := run.insist(ctx, run.promote)
	if err == nil || errors.Is(err, errCommitted) {
		return nil
	}
	if errors.Is(err, errSuperseded) {
		return run.inDoubt(err, nowTakenOver)
	}
	if run.handover.relied {
		return run.inDoubt(err, nowUnreceived)
	}
	return run.inDoubt(err, nowInDoubt)
}

// insist makes a change, and tries again when storage fails.
func (run *Run) insist(ctx context.Context, change func(*State) error) error {
	var err error
	for range commitAttempts {
		if err = run.role.update(ctx, change); !errors.Is(err, ErrStorage) {
			return err
		}
	}
	return err
}

// errCommitted ends an attempt to commit that finds an earlier one has landed.
var errCommitted = errors.New("committed already")

// promote is the change that commit saves.
func (run *Run) promote(s *State) error {
	if !run.owns(s) {
		if rec := s.Latest(); rec != nil && rec.ID == run.op.ID && rec.Outcome == OutcomeCompleted {
			return errCommitted
		}
		return errSuperseded
	}
	now := run.now()
	resolved := run.role.Snapshot().Resolved
	results := run.results(s)
	whole := run.op.Kind != KindRollback && s.covers(run.op.Secrets)
	run.warnNewer(s)
	s.Version++
	for _, name := range run.op.Secrets {
		run.keepInUse(s.Secrets[name], now)
		run.publish(s.Secrets[name], now)
		s.Secrets[name].promote(run.proven[name], s.Version, now, run.retireTime(now, resolved))
	}
	if run.op.Kind == KindRotate {
		s.Rotated = s.Version
	}
	s.unask(run.op.Secrets)
	s.LastRotation, s.InFlight = now, nil
	if beside := run.beside(s); beside != nil {
		s.PostCommit = beside
	} else {
		run.warnUnwatched(s)
		s.PostCommit = run.after(s)
		s.Failures, s.FailedRetirements, s.RetryAt, s.LastError, s.NeedsAttention, s.Rewound = 0, 0, time.Time{}, "", false, nil
	}
	if whole || s.Anchor.IsZero() {
		s.Anchor = now
		s.NextRotation = resolved.Next(now)
	}
	return run.conclude(s, OutcomeCompleted, results)
}

// retireTime is when the replaced values stop being valid.
func (run *Run) retireTime(now time.Time, resolved ResolvedPolicy) time.Time {
	if run.op.RevokePrevious {
		return now
	}
	return now.Add(resolved.Overlap)
}

// promote moves the values of a secret one stage on, with pending as it was proven. Who
// uses a value that is revoked is not waited for.
func (s *Secret) promote(pending *Value, version int, now, retire time.Time) {
	if s.Current != nil {
		previous := *s.Current
		previous.RetireTime, previous.Replaced = retire, now
		if !retire.After(now) {
			previous.DrainUntil = retire
		}
		s.Previous = &previous
	}
	current := *pending
	current.Version, current.Published = version, time.Time{}
	s.Current, s.Pending, s.Unresolved = &current, nil, nil
}

// results describes the secrets of the operation before s is changed.
func (run *Run) results(s *State) []SecretResult {
	results := make([]SecretResult, 0, len(run.op.Secrets))
	for _, name := range run.op.Secrets {
		result := SecretResult{Secret: name, From: s.currentVersion(name)}
		if secret := s.Secrets[name]; secret != nil {
			result.Type = secret.Type
		} else if run.added != nil {
			result.Type = run.added.Type
		}
		results = append(results, result)
	}
	return results
}

// conclude adds the record of the operation to the changed state s.
func (run *Run) conclude(s *State, outcome Outcome, results []SecretResult) error {
	for i, result := range results {
		results[i].To, results[i].Steps = s.currentVersion(result.Secret), run.steps[result.Secret]
		results[i].Unresolved = slices.Contains(run.lost, result.Secret)
	}
	run.record = Record{Operation: run.op, Outcome: outcome, Results: results, Issues: slices.Clone(run.issues)}
	return run.role.complete(s, &run.record)
}

// currentVersion is the version of the current value, zero if there is none.
func (s *State) currentVersion(name string) int {
	if secret := s.Secrets[name]; secret != nil && secret.Current != nil {
		return secret.Current.Version
	}
	return 0
}

// secret returns the secret as the role's state has it now. For a run that resolves
// it, what its target may hold is what is pending.
func (run *Run) secret(name string) Secret {
	secret := run.role.Snapshot().Secrets[name]
	if secret == nil {
		return *run.added
	}
	seen := *secret
	if run.resolving {
		seen.Pending = secret.Undecided()
	}
	return seen
}

func (run *Run) driver(s Secret) Driver { return run.role.engine.Drivers[s.Type] }
