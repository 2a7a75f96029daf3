package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Task is something around an operation that no target decides about: a copy of
// the values to be delivered, an application to be watched. It is planned before
// anything is changed, travels with the intent, and is done after the commit, in
// steps, by whoever is active then.
type Task struct {
	// Name says what it is, such as "check/health".
	Name string `json:"name"`
	// Required says that the operation is rolled back when the task fails.
	Required bool `json:"required,omitempty"`
	// Stage puts tasks in order: one is done when all of lower stages are.
	Stage int `json:"stage,omitempty"`
	// Next is when to do the next step; zero means at once.
	Next time.Time `json:"next,omitzero"`
	// Done says that there is no next step, Failed that it went wrong, and Dropped that
	// it ended before it was decided how it went.
	Done    bool `json:"done,omitempty"`
	Failed  bool `json:"failed,omitempty"`
	Dropped bool `json:"dropped,omitempty"`
	// Detail says how the latest step went. It holds no secret.
	Detail string `json:"detail,omitempty"`
	// Finding is what was found, in a KindPublish or KindRetire record; see Found.
	Finding Finding `json:"finding,omitempty"`
	// Secrets are those whose retired values an application is asked to refuse.
	Secrets []string `json:"secrets,omitempty"`
	// Data belongs to who does the task. It holds no secret.
	Data json.RawMessage `json:"data,omitempty"`
}

// Hooks are what an operation has around it.
type Hooks interface {
	// Plan does what has to be done before an operation changes anything, and
	// returns what has to follow its commit. An error keeps the operation from
	// beginning. Of a retirement it returns which applications to ask to refuse the
	// values, and of which secrets, and an error keeps it from nothing.
	Plan(ctx context.Context, r *Role, op Operation) ([]Task, error)
	// Do does the next step of a task, and returns the task as it is then; one of a
	// retirement is done then, with its finding. When ctx has ended, what it returns is
	// not used.
	Do(ctx context.Context, r *Role, t Task) Task
}

// PostCommit is what is left to be done after a commit, and saved with it.
type PostCommit struct {
	// ID, Kind, Trigger and Secrets are those of the operation that was committed,
	// Version is what it made. Earlier versions left Trigger out.
	ID      string   `json:"id"`
	Kind    Kind     `json:"kind"`
	Trigger Trigger  `json:"trigger,omitempty"`
	Secrets []string `json:"secrets"`
	Version int      `json:"version"`
	Tasks   []Task   `json:"tasks"`
}

// postCommit is what is left to be done after run commits, nil if nothing is.
func (run *Run) postCommit(version int) *PostCommit {
	f := &PostCommit{ID: run.op.ID, Kind: run.op.Kind, Trigger: run.op.Trigger, Secrets: run.op.Secrets, Version: version, Tasks: run.op.Tasks}
	if len(f.open()) == 0 {
		return nil
	}
	return f
}

// after is what is left to be done after run has committed s. The part of a rollback that
// was unresolved, and went forward by itself, leaves the other secrets to be rolled back
// for the task that failed.
func (run *Run) after(s *State) *PostCommit {
	if f := s.PostCommit; f != nil && run.op.Follows == f.ID && f.failure() != "" {
		if left := f.without(run.op.Secrets); left != nil {
			return left
		}
	}
	return run.postCommit(s.Version)
}

// beside is what is left to be done after the commit of another operation, if a secret goes
// forward by itself meanwhile. Destinations get its value when they are compared next.
func (run *Run) beside(s *State) *PostCommit {
	if f := s.PostCommit; f != nil && run.resolving && run.op.Follows != f.ID {
		return f.without(run.op.Secrets)
	}
	return nil
}

// without is f for its other secrets, nil if there are none.
func (f *PostCommit) without(secrets []string) *PostCommit {
	left := *f
	left.Secrets = slices.DeleteFunc(slices.Clone(f.Secrets), func(name string) bool { return slices.Contains(secrets, name) })
	if len(left.Secrets) == 0 {
		return nil
	}
	return &left
}

// follow says which operation op is about.
func (op *Operation) follow(f *PostCommit) {
	op.Follows, op.FollowsKind, op.FollowsTrigger = f.ID, f.Kind, f.Trigger
}

// at is when the next step of any task is to be done.
func (f *PostCommit) at() time.Time {
	var at time.Time
	for i, t := range f.ready() {
		if i == 0 || t.Next.Before(at) {
			at = t.Next
		}
	}
	return at
}

// open lists the tasks that are not done.
func (f *PostCommit) open() []Task {
	return slices.DeleteFunc(slices.Clone(f.Tasks), func(t Task) bool { return t.Done })
}

// ready lists the open tasks whose turn it is: those of the lowest stage.
func (f *PostCommit) ready() []Task {
	open := f.open()
	return slices.DeleteFunc(slices.Clone(open), func(t Task) bool {
		return slices.ContainsFunc(open, func(other Task) bool { return other.Stage < t.Stage })
	})
}

// failed lists the required tasks that failed.
func (f *PostCommit) failed() []Task {
	return slices.DeleteFunc(slices.Clone(f.Tasks), func(t Task) bool { return !t.Required || !t.Failed })
}

// failure says which required tasks failed, and how; empty if none did.
func (f *PostCommit) failure() string {
	var failed []string
	for _, t := range f.failed() {
		failed = append(failed, t.Name+": "+t.Detail)
	}
	return strings.Join(failed, "; ")
}

// planTimeout bounds what is done before an operation begins.
const planTimeout = 2 * time.Minute

// prepare does what comes before an operation, and plans what follows it. Only a
// rotation whose previous values are kept can be rolled back.
func (run *Run) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, planTimeout)
	defer cancel()
	tasks, err := run.role.engine.Hooks.Plan(ctx, run.role, run.op)
	if err != nil && run.op.Kind == KindRollback {
		run.found(err.Error()) // nothing keeps a role from going back
		return nil
	}
	if err != nil {
		return err
	}
	for i := range tasks {
		tasks[i].Required = tasks[i].Required && run.op.Kind == KindRotate && !run.op.RevokePrevious
	}
	run.op.Tasks = tasks
	return nil
}

// doPostCommit does the steps that are due of what follows a commit. When a required
// task has failed it goes back to the previous values, which are still valid.
func (run *Run) doPostCommit(ctx context.Context) error {
	f := run.role.Snapshot().PostCommit
	if f == nil {
		return nil
	}
	next := *f
	if next.failure() == "" {
		next.Tasks = run.advance(ctx, f)
		if ctx.Err() != nil {
			return errInterrupted
		}
		run.op.follow(f)
		run.op.Secrets, run.op.Tasks = f.Secrets, next.Tasks
		if err := run.role.update(ctx, func(s *State) error { return run.keep(s, &next) }); err != nil {
			return run.failure(OutcomeFailed, err, nowFollowing)
		}
	}
	if cause := next.failure(); cause != "" {
		return run.retreat(ctx, &next, cause)
	}
	return nil
}

// advance does the next step of every task that is due and whose turn it is, side
// by side.
func (run *Run) advance(ctx context.Context, f *PostCommit) []Task {
	tasks, now, ready := slices.Clone(f.Tasks), run.role.engine.Now(), f.ready()
	var doing sync.WaitGroup
	for i, t := range tasks {
		if t.Next.After(now) || !slices.ContainsFunc(ready, func(r Task) bool { return r.Name == t.Name }) {
			continue
		}
		doing.Go(func() { tasks[i] = run.role.engine.Hooks.Do(ctx, run.role, t) })
	}
	doing.Wait()
	return tasks
}

// keep is the change that saves how far the tasks are. When all are done, nothing
// follows any more, and that is recorded.
func (run *Run) keep(s *State, next *PostCommit) error {
	if s.PostCommit == nil || s.PostCommit.ID != next.ID || s.InFlight != nil {
		return errSuperseded
	}
	if s.PostCommit = next; len(next.open()) > 0 || next.failure() != "" {
		return nil
	}
	s.PostCommit = nil
	for _, t := range next.Tasks {
		if t.Failed {
			run.found(t.Name + ": " + t.Detail)
		}
	}
	return run.conclude(s, OutcomeCompleted, []SecretResult{})
}

// retreat rolls the operation back that a required task has failed for.
func (run *Run) retreat(ctx context.Context, f *PostCommit, cause string) error {
	back := run.role.newRun(Request{
		Kind: KindRollback, Trigger: TriggerCheck, Secrets: f.Secrets,
		Reason: fmt.Sprintf("%s, after %s %s", cause, f.Kind, f.ID),
	})
	back.op.follow(f)
	for _, t := range f.failed() {
		back.op.FailedTasks = append(back.op.FailedTasks, t.Name)
	}
	err := back.plan(run.role.Snapshot().State)
	if err != nil {
		return run.strand(ctx, f, cause, err)
	}
	if err = back.heldUp(ctx); err == nil {
		err = back.transact(ctx)
	}
	run.record = back.record
	return err
}

// strand ends what follows a commit that should be rolled back and can't be: a
// person has to decide.
func (run *Run) strand(ctx context.Context, f *PostCommit, cause string, obstacle error) error {
	err := run.role.update(ctx, func(s *State) error {
		if s.PostCommit == nil || s.PostCommit.ID != f.ID {
			return errSuperseded
		}
		s.PostCommit, s.NeedsAttention = nil, true
		s.LastError = fmt.Sprintf("%s; the engine could not roll it back: %v", cause, obstacle)
		run.found(s.LastError)
		return run.conclude(s, OutcomeFailed, []SecretResult{})
	})
	return run.failure(OutcomeFailed, errors.Join(errors.New(cause), obstacle, err), nowStranded)
}

const (
	nowFollowing = "The new values are committed and work. The engine will try the steps after the commit again."
	nowReversed  = "Readers get the previous values again, as a new version. The engine proved that they work."
	nowStranded  = "The new values stay current. Their targets accepted them when they were committed. Read status for what to do."
)

// AwaitPostCommit waits, as long as ctx lasts, for the end of what follows the commit of
// that operation, and returns its record: nil if nothing followed it or it has not
// ended. An operation that was rolled back for a failed task is a *Failure.
func (r *Role) AwaitPostCommit(ctx context.Context, id string) (*Record, error) {
	for {
		r.mu.Lock()
		moved, s := r.moved, r.Snapshot()
		r.mu.Unlock()
		if s.PostCommit == nil || s.PostCommit.ID != id {
			return s.outcome(id)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// outcome looks for the record of what followed an operation.
func (s *State) outcome(id string) (*Record, error) {
	for _, e := range slices.Backward(s.Outbox) {
		rec, err := e.Decode()
		if err != nil || rec.Follows != id {
			continue
		}
		switch {
		case rec.Kind == KindPostCommit && rec.Outcome == OutcomeCompleted:
			return &rec, nil
		case rec.Kind == KindRollback && rec.Outcome == OutcomeCompleted:
			rec.ID, rec.Kind, rec.Outcome = id, KindRotate, OutcomeRolledBack
			return nil, &Failure{Record: rec, Cause: errors.New(rec.Reason), Now: nowReversed}
		}
		rec.ID, rec.Kind = id, KindRotate
		return nil, &Failure{Record: rec, Cause: errors.New(strings.Join(rec.Issues, "; ")), Now: nowStranded}
	}
	return nil, nil
}
