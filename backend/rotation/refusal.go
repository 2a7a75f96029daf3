package rotation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A database proves by itself that a retired login is dead. A key is dead when the
// applications that verify it refuse it, and only they can show that. They are asked
// while the engine still has the value to send, but offers it to nobody any more:
//
//	RetireTime ──one refresh interval──▶ DestroyTime: asked ──whatever the answer──▶ destroyed

// Asked is what an application answered when it was last asked to refuse values.
type Asked struct {
	Task
	// ID is that of the retirement, and At when it ended.
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

// ends is when a previous value is destroyed at the earliest.
func (v *Value) ends() time.Time { return later(v.RetireTime, v.DestroyTime) }

// Held reports whether the overlap of a previous value has ended, and the engine has it only
// to ask applications to refuse it. Nobody is given it, and nothing goes back to it.
func (v *Value) Held() bool { return !v.DestroyTime.IsZero() }

// revoked reports whether a previous value had no overlap.
func (v *Value) revoked() bool { return !v.RetireTime.After(v.Replaced) }

// hold takes out of the operation the secrets whose values applications are to be asked
// to refuse, until readers have had a refresh interval to hear of the end of the overlap.
// It plans the asking for the others. Waiting is a time in storage, as in drain, but not
// the end of the overlap: nobody is given the value meanwhile.
func (run *Run) hold(ctx context.Context) error {
	run.planRefusals(ctx)
	waits, now := map[string]time.Time{}, run.role.engine.Now()
	for _, name := range run.op.Secrets {
		previous := run.secret(name).Previous
		if previous == nil || previous.Held() || !slices.ContainsFunc(run.op.Tasks, about(name)) {
			continue
		}
		if at := previous.RetireTime.Add(run.role.Snapshot().Resolved.RefreshInterval); now.Before(at) {
			waits[name] = at
		}
	}
	if len(waits) == 0 {
		return nil
	}
	run.op.Secrets = slices.DeleteFunc(slices.Clone(run.op.Secrets), func(name string) bool { return !waits[name].IsZero() })
	run.planRefusals(ctx)
	run.describe()
	return run.role.update(ctx, func(s *State) error {
		for name, at := range waits {
			if secret := s.Secrets[name]; secret != nil && secret.Previous != nil {
				previous := *secret.Previous
				previous.DestroyTime = at
				secret.Previous = &previous
			}
		}
		return nil
	})
}

// planRefusals plans who is asked to refuse the values that the operation retires. What
// goes wrong with that keeps no value alive.
func (run *Run) planRefusals(ctx context.Context) {
	tasks, err := run.role.engine.Hooks.Plan(ctx, run.role, run.op)
	if err != nil {
		run.found(fmt.Sprintf("the engine could not ask whether applications refuse the retired values: %v", err))
	}
	run.op.Tasks = tasks
}

// about finds the tasks that ask for the value of a secret.
func about(secret string) func(Task) bool {
	return func(t Task) bool { return slices.Contains(t.Secrets, secret) }
}

// ask asks applications, side by side, to refuse the values that were just retired.
func (run *Run) ask(ctx context.Context, retired []string) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	asked := slices.DeleteFunc(slices.Clone(run.op.Tasks), func(t Task) bool {
		return !slices.ContainsFunc(retired, func(name string) bool { return about(name)(t) })
	})
	var asking sync.WaitGroup
	for i, t := range asked {
		if t.Done {
			continue
		}
		run.progress.Store(&Progress{Secret: t.Secrets[0], Step: "ask", Since: run.role.engine.Now()})
		asking.Go(func() { asked[i] = run.role.engine.Hooks.Do(ctx, run.role, t) })
	}
	asking.Wait()
	run.op.Tasks = asked
}

// answered keeps in the state what applications answered last.
func (run *Run) answered(s *State) {
	for _, t := range run.op.Tasks {
		s.unask(t.Secrets)
	}
	for _, t := range run.op.Tasks {
		s.Asked = append(s.Asked, Asked{Task: t, ID: run.op.ID, At: run.now()})
	}
}

// unask drops what was answered about earlier values of these secrets.
func (s *State) unask(secrets []string) {
	s.Asked = slices.DeleteFunc(slices.Clone(s.Asked), func(a Asked) bool {
		return slices.ContainsFunc(secrets, func(name string) bool { return about(name)(a.Task) })
	})
}

// accepting returns the task that found an application to accept the value of a secret,
// nil if none has.
func (run *Run) accepting(secret string) *Task {
	for i, t := range run.op.Tasks {
		if t.Finding == FoundAccepted && about(secret)(t) {
			return &run.op.Tasks[i]
		}
	}
	return nil
}
