package rotation

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Request asks a role for an operation.
type Request struct {
	Kind      Kind
	Trigger   Trigger
	Actor     Actor
	Reason    string
	RequestID string
	// Secrets limits the operation; empty means all that it can apply to.
	Secrets []string
	// RevokePrevious ends the overlap of the replaced values at once.
	RevokePrevious bool
	// Force has a retirement by hand cut off who needs the previous values.
	Force bool
	// IfVersion makes a rollback undo that version, or do nothing: it has to be the
	// role's, and made by a rotation. Zero stands for any.
	IfVersion int
	// DiscardNext makes new values also where the next one was made and published ahead:
	// that one is known to somebody who should not have it.
	DiscardNext bool
	// Added is the secret to create or import.
	Added *Secret
	// Supplied is the material to import.
	Supplied Material
	// Findings of a preflight, to stand among the issues of the record.
	Findings []string
	// Waits says that the caller goes on to call Wait, and can be given values that
	// are not kept.
	Waits bool
}

// Run is one operation under way in this process, or just ended.
type Run struct {
	role     *Role
	op       Operation
	added    *Secret
	supplied Material
	// undoes is the version that a rollback is to undo, zero for any.
	undoes int
	// discards says that no value that was made ahead is used.
	discards bool
	progress atomic.Pointer[Progress]
	// described is op for whoever asks while the run plans.
	described atomic.Pointer[Operation]
	done      chan struct{}
	handover  handover
	// since is Role.saves as it was when the run began.
	since int
	// resolving says that the run is about what is unresolved of its only secret.
	resolving bool
	// paused says that the retirement came while something else that failed has its pause.
	paused bool

	// The following belong to the goroutine of the run until done is closed.
	targets []string          // the secrets, in the order in which they are set
	pending map[string]*Value // made by create, saved by intend
	next    map[string]*Value // made by create, saved by commit
	proven  map[string]*Value // pending as it was proven, saved by commit
	touched []string          // the secrets whose target may have been changed
	steps   map[string][]Step
	issues  []string
	lost    []string // secrets that this run left unresolved
	left    []string // what became of the sessions of retired values
	// cutOff are, by secret, those whom a retirement by hand cuts off; nil for any other run.
	cutOff map[string][]string
	record Record
	err    error
}

// Progress is where a run stands.
type Progress struct {
	Secret, Step string
	Since        time.Time
}

// Operation returns what the run does. It never blocks.
func (run *Run) Operation() Operation {
	if op := run.described.Load(); op != nil {
		return *op
	}
	return run.op // of a run that ended before this process, and changes no more
}

// describe shows the operation as it is planned now.
func (run *Run) describe() {
	op := run.op
	run.described.Store(&op)
}

// Progress returns the step under way, nil before the first.
func (run *Run) Progress() *Progress { return run.progress.Load() }

// Done is closed when the run has ended.
func (run *Run) Done() <-chan struct{} { return run.done }

// Result returns how the run ended. It may be called only after Done is closed.
func (run *Run) Result() (Record, error) { return run.record, run.err }

// Start begins an operation and returns its run, or the run that an earlier
// delivery of the same request has begun. It waits, as long as ctx lasts, for
// the engine's own recovery or retirement to get out of the way; any other
// operation in flight is ErrInFlight. What is wrong with the request itself is
// ErrInvalid, and then nothing has happened.
func (r *Role) Start(ctx context.Context, req Request) (*Run, error) {
	for {
		run, own, err := r.begin(ctx, req)
		if own == nil {
			return run, err
		}
		select {
		case <-own.done:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// begin claims the role for a new run. When one of the engine's own runs is in
// the way it is returned too, so that the caller can wait for it.
func (r *Role) begin(ctx context.Context, req Request) (run, own *Run, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if busy := r.run.Load(); busy != nil {
		switch {
		case req.RequestID != "" && busy.op.RequestID == req.RequestID:
			busy.handover.join()
			return busy, nil, nil
		case busy.op.Kind.own() || busy.op.Trigger == TriggerDrift:
			return nil, busy, busy.Operation().busy(r.Name)
		}
		return nil, nil, busy.Operation().busy(r.Name)
	}
	if run := r.repeated(req); run != nil {
		return run, nil, nil
	}
	run = r.newRun(req)
	if now := r.Snapshot(); !now.open() {
		if err := run.plan(now.State); err != nil {
			return nil, nil, err
		}
		if rec := run.findLostAnswerLocked(ctx); rec != nil {
			return r.ended(*rec), nil, nil
		}
	}
	if req.Waits {
		run.handover.join()
	}
	run.since = r.saves
	run.describe()
	r.run.Store(run)
	go run.execute(r.engine.Context) //nolint:contextcheck // a run outlives the request that begins it
	return run, nil, nil
}

// repeated returns the ended run of an earlier delivery of this request: Vault
// executes a request again when the plugin died while answering it.
func (r *Role) repeated(req Request) *Run {
	if req.RequestID == "" {
		return nil
	}
	rec, _ := r.Snapshot().answer(req.RequestID)
	if rec == nil || rec.Outcome != OutcomeCompleted {
		return nil
	}
	return r.ended(*rec)
}

// ended is a run that has ended before.
func (r *Role) ended(rec Record) *Run {
	run := &Run{role: r, op: rec.Operation, record: rec, done: make(chan struct{})}
	close(run.done)
	return run
}

func (r *Role) newRun(req Request) *Run {
	op := r.engine.NewOperation(req.Kind, req.Trigger)
	op.Actor, op.Reason, op.RequestID = req.Actor, req.Reason, req.RequestID
	op.Secrets, op.RevokePrevious, op.Force = slices.Clone(req.Secrets), req.RevokePrevious, req.Force
	return &Run{
		role: r, op: op, added: req.Added, supplied: req.Supplied, undoes: req.IfVersion, discards: req.DiscardNext,
		issues: slices.Clone(req.Findings), steps: map[string][]Step{}, done: make(chan struct{}),
		handover: handover{committed: make(chan struct{})},
	}
}

// execute runs the operation to its end and frees the role.
func (run *Run) execute(ctx context.Context) {
	defer func() {
		if p := recover(); p != nil {
			run.err = fmt.Errorf("internal error in %s %s: %v\n%s", run.op.Kind, run.op.ID, p, debug.Stack())
		}
		run.role.mu.Lock()
		refused := errors.Is(run.err, ErrInvalid) && run.op.Trigger == TriggerManual
		left := run.op.Kind == KindRecover && run.role.Snapshot().open()
		if run.err != nil && !refused && (left || run.role.saves == run.since) {
			run.role.stallLocked()
		}
		run.role.run.Store(nil)
		run.role.mu.Unlock()
		close(run.done)
		run.role.engine.Changed(run.role)
	}()
	run.err = run.run(ctx)
	// What can't be appended now travels in the state until it can.
	_ = run.role.flush(ctx)
}

// run first finishes what an interrupted operation left open, which may be
// an earlier delivery of the same request.
func (run *Run) run(ctx context.Context) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	for _, before := range []func(context.Context) error{run.role.reload, run.rewind, run.prolongAll} {
		if err := before(ctx); err != nil {
			return run.refuse(err)
		}
	}
	if err := run.recover(ctx); err != nil {
		return err
	}
	if err := run.resolve(ctx); err != nil {
		return err
	}
	if repeated := run.role.repeated(Request{RequestID: run.op.RequestID}); repeated != nil {
		run.record = repeated.record
		return nil
	}
	answered, err := run.planAgain(ctx)
	if err != nil {
		return err
	}
	if answered != nil {
		run.record = *answered
		return nil
	}
	if run.overtaken() {
		return nil
	}
	if err := run.heldUp(ctx); err != nil {
		return err
	}
	switch run.op.Kind {
	case KindRecover:
		return nil
	case KindRetire:
		if run.op.Trigger == TriggerManual {
			return run.retireByHand(ctx)
		}
		return run.retire(ctx)
	case KindPostCommit:
		return run.doPostCommit(ctx)
	case KindRepair:
		return run.repair(ctx)
	case KindMove:
		return run.move(ctx)
	}
	return run.transact(ctx)
}

// overtaken reports whether an automatic rotation is not due any more, because
// another one came between the decision to start it and its start.
func (run *Run) overtaken() bool {
	if run.op.Trigger != TriggerSchedule || run.op.Kind != KindRotate {
		return false
	}
	now := run.role.engine.Now()
	next := run.role.Snapshot().NextAction(now)
	return next.Kind != KindRotate || next.At.After(now)
}

// planAgain plans on the state as it is after settling, and returns the record of
// what need not be done, because settling has.
func (run *Run) planAgain(ctx context.Context) (*Record, error) {
	run.role.mu.Lock()
	defer run.role.mu.Unlock()
	defer run.describe()
	if err := run.plan(run.role.Snapshot().State); err != nil {
		return nil, err
	}
	return run.findLostAnswerLocked(ctx), nil
}

// plan checks the request against the state and lists the secrets it works on.
func (run *Run) plan(s *State) error {
	switch run.op.Kind {
	case KindRecover, KindPostCommit:
		return nil
	case KindCreate, KindImport:
		if s.Deleted {
			return fmt.Errorf("%w: role %s was deleted meanwhile", ErrInvalid, run.role.Name)
		}
		if s.Secrets[run.added.Name] != nil {
			return fmt.Errorf("%w: secret %q exists already in %s", ErrInvalid, run.added.Name, run.role.Name)
		}
		run.op.Secrets = []string{run.added.Name}
		return nil
	}
	selected, err := s.Selected(run.role.Name, run.op.Secrets)
	switch {
	case err != nil:
		return err
	case run.op.Kind == KindRollback:
		return run.planRollback(s)
	case run.op.Kind == KindRetire && run.op.Trigger == TriggerManual:
		return run.planRetire(s)
	case run.op.Kind == KindRetire:
		run.op.Secrets = run.role.Snapshot().ending(run.role.engine.Now())
	case run.op.Kind == KindRotate && run.op.Trigger == TriggerSchedule:
		run.op.Secrets = slices.DeleteFunc(slices.Clone(selected), func(name string) bool { return s.Secrets[name].ShownOnce })
	default:
		run.op.Secrets = selected
	}
	return nil
}

// planRollback selects the secrets that have something to go back to.
func (run *Run) planRollback(s *State) error {
	if err := run.checkUndoes(s); err != nil {
		return err
	}
	var possible []string
	now := run.role.engine.Now()
	for _, name := range s.Names() {
		if s.Secrets[name].PreviousAt(now) != nil && (run.undoes == 0 || s.currentVersion(name) == run.undoes) {
			possible = append(possible, name)
		}
	}
	return run.choose(possible, "previous value to go back to")
}

// choose selects those of the possible secrets that were asked for; all, if none was named.
// What says what the others lack.
func (run *Run) choose(possible []string, what string) error {
	if len(possible) == 0 {
		return fmt.Errorf("%w: no secret of %s has a %s: the overlap has ended, or nothing was rotated yet", ErrInvalid, run.role.Name, what)
	}
	if len(run.op.Secrets) == 0 {
		run.op.Secrets = possible
	}
	for _, name := range run.op.Secrets {
		if !slices.Contains(possible, name) {
			return fmt.Errorf("%w: secrets: %q has no %s; these have: %s",
				ErrInvalid, name, what, strings.Join(possible, ", "))
		}
	}
	return nil
}

// checkUndoes refuses to undo a version that is not the current one any more, or that
// no rotation has made: programs that roll back what fails their tests would undo each
// other's rollbacks for ever.
func (run *Run) checkUndoes(s *State) error {
	switch {
	case run.undoes == 0:
	case s.Version != run.undoes:
		return fmt.Errorf("%w: if_version: is %d, but %s has version %d now; nothing was changed", ErrInvalid, run.undoes, run.role.Name, s.Version)
	case s.Rotated != run.undoes:
		return fmt.Errorf("%w: if_version: version %d of %s was not made by a rotation but, for example, by a rollback, so there is no rotation to undo; nothing was changed", ErrInvalid, run.undoes, run.role.Name)
	}
	return nil
}

// check reports names that are not, or not once, among the role's secrets.
func (s *State) check(role string, names []string) error {
	if len(s.Secrets) == 0 {
		return fmt.Errorf("%w: role %q has no secrets yet: write secrets/%s/<secret> first", ErrInvalid, role, role)
	}
	for i, name := range names {
		if s.Secrets[name] == nil {
			return fmt.Errorf("%w: secrets: %s has no secret %q; it has: %s", ErrInvalid, role, name, strings.Join(s.Names(), ", "))
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("%w: secrets: %q is named twice", ErrInvalid, name)
		}
	}
	return nil
}

// stepTimeout bounds one step on one target, whatever the driver does: it may connect
// twice, and a connection may be given a minute each time.
const stepTimeout = 150 * time.Second

// step does one step on one secret and notes it for the record.
func (run *Run) step(ctx context.Context, secret, name string, do func(context.Context) error) error {
	started := run.role.engine.Now()
	run.progress.Store(&Progress{Secret: secret, Step: name, Since: started})
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	err := do(ctx)
	taken := Step{Name: name, DurationMS: run.role.engine.Now().Sub(started).Milliseconds()}
	if errors.Is(err, ErrUnproven) {
		taken.Unproven, err = err.Error(), nil
	}
	taken.OK = err == nil
	if err != nil {
		taken.Detail = plain(err)
		err = &StepError{Secret: secret, Step: name, Err: err}
	}
	run.steps[secret] = append(run.steps[secret], taken)
	return err
}

// errInterrupted ends a run whose engine is shutting down; its intent is saved,
// and whoever starts next recovers it.
var errInterrupted = errors.New("interrupted by a shutdown of the engine; the engine recovers it at the next start")

// Selected returns the secrets that a rotation of names works on: those, or all.
func (s *State) Selected(role string, names []string) ([]string, error) {
	if err := s.check(role, names); err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return s.Names(), nil
	}
	return names, nil
}
