package check

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Ports are what checks need of the mount.
type Ports struct {
	// Rule says where requests of checks may go.
	Rule func(ctx context.Context) (outbound.Rule, error)
	// Values are what the placeholders of a role's checks stand for.
	Values func(s *rotation.Snapshot) (map[string]string, error)
	// RetiredNames are the placeholders of previous values, each with its secret, and
	// Retired are Values, and those of these secrets.
	RetiredNames func(s *rotation.State) map[string]string
	Retired      func(s *rotation.Snapshot, secrets []string) (map[string]string, error)
	Now          func() time.Time
}

// Checks are those of the roles of a mount.
type Checks struct{ ports Ports }

// New returns the checks of a mount.
func New(ports Ports) *Checks { return &Checks{ports} }

// What the names of tasks begin with, and the stage they are done in: after those of
// destinations, on which checks may depend.
const (
	taskPrefix = "check/"
	taskStage  = 1
)

// Plan asks what is asked before an operation, and returns a task for each check. An
// emergency is not kept waiting by an application that is sick because of it: if it is
// urgent, nothing is asked before.
func (k *Checks) Plan(ctx context.Context, r *rotation.Role, urgent bool) ([]rotation.Task, error) {
	snapshot := r.Snapshot()
	if len(snapshot.Checks) == 0 {
		return nil, nil
	}
	values, err := k.ports.Values(snapshot)
	if err != nil {
		return nil, err
	}
	rule, err := k.ports.Rule(ctx)
	if err != nil {
		return nil, err
	}
	var tasks []rotation.Task
	for _, name := range Names(snapshot.State) {
		c, err := Decode(snapshot.Checks[name])
		if err != nil {
			return nil, err
		}
		if c.Phase == Retire || c.Phase == Before && urgent {
			continue
		}
		task, err := c.plan(ctx, rule, values, urgent)
		if task.Name, task.Stage = taskPrefix+name, taskStage; err != nil && c.OnFailure == Rollback {
			return nil, fmt.Errorf("check %s before the rotation: %w", name, err)
		}
		tasks = append(tasks, task)
	}
	return tasks, nil
}

// plan does what the check does before the operation, and makes its task. What the rule
// refuses would fail after the cut-over, so unless it is urgent that is an error
// before it.
func (c Config) plan(ctx context.Context, rule outbound.Rule, values map[string]string, urgent bool) (rotation.Task, error) {
	var err error
	if !urgent {
		err = c.Allowed(rule)
	}
	if c.Phase == Before {
		task := rotation.Task{Done: true, Detail: "as expected before the rotation"}
		if err == nil {
			err = c.Insist(ctx, rule, values)
		}
		if err != nil {
			task.Failed, task.Detail = true, "before the rotation: "+err.Error()
		}
		return task, err
	}
	task, watch := rotation.Task{Required: c.OnFailure == Rollback}, Watch{}
	if err == nil && c.Samples > 0 && !urgent {
		watch.Baseline, err = c.Measure(ctx, rule, values)
	}
	return task, errors.Join(err, keepWatch(&task, watch))
}

// Do does the next step of a task; one that Retirement has made is done then.
func (k *Checks) Do(ctx context.Context, r *rotation.Role, t rotation.Task) rotation.Task {
	if len(t.Secrets) > 0 {
		return k.refusal(ctx, r, t)
	}
	if err := k.look(ctx, r, &t); err != nil {
		t.Done, t.Dropped, t.Detail = true, true, err.Error()
	}
	return t
}

// look does the next request of a check. An error says that there is no check any
// more that could fail.
func (k *Checks) look(ctx context.Context, r *rotation.Role, t *rotation.Task) error {
	snapshot, now := r.Snapshot(), k.ports.Now()
	c, rule, err := k.load(ctx, snapshot, *t)
	if err != nil {
		return err
	}
	var watch Watch
	values, valuesErr := k.ports.Values(snapshot)
	if err := errors.Join(json.Unmarshal(t.Data, &watch), valuesErr); err != nil {
		return err
	}
	if watch.Until.IsZero() {
		watch.Until = now.Add(c.Delay + c.WatchPeriod)
		if c.Delay > 0 {
			t.Next = now.Add(c.Delay)
			return keepWatch(t, watch)
		}
	}
	verdict := c.Look(ctx, rule, &watch, now, values)
	t.Detail = c.Tell(&watch)
	t.Done, t.Failed = verdict != Open, verdict == Sick
	t.Next = now.Add(c.Interval)
	return keepWatch(t, watch)
}

func keepWatch(t *rotation.Task, w Watch) (err error) {
	t.Data, err = json.Marshal(w)
	return err
}

// Names lists the checks of a role in alphabetical order.
func Names(s *rotation.State) []string { return slices.Sorted(maps.Keys(s.Checks)) }

// Set makes c a check of the state of a role, and refuses what could not work. Deadlines
// are those of the role's destinations, by name.
func (k *Checks) Set(ctx context.Context, s *rotation.State, resolved rotation.ResolvedPolicy, name string, c Config, deadlines map[string]time.Duration) error {
	values, err := k.ports.Values(&rotation.Snapshot{State: s, Resolved: resolved})
	if err != nil {
		return err
	}
	rule, err := k.ports.Rule(ctx)
	if err != nil {
		return err
	}
	c.Checked = true
	raw, err := json.Marshal(c)
	if err := cmp.Or(err, c.Validate(slices.Sorted(maps.Keys(values)), k.ports.RetiredNames(s))); err != nil {
		return err
	}
	if s.Checks == nil {
		s.Checks = map[string]json.RawMessage{}
	}
	s.Checks[name] = raw
	return cmp.Or(c.Admit(ctx, rule), Fit("watch_period", s, resolved.Overlap, deadlines))
}

// Fit refuses, in the name of the field that was written, what might follow a
// rotation for longer than the previous values are kept: then there would be nothing
// to go back to. Checks begin when destinations have what is published, or their
// deadline is over.
func Fit(field string, s *rotation.State, overlap time.Duration, deadlines map[string]time.Duration) error {
	slow, takes, err := longest(s)
	if err != nil || slow == "" {
		return err
	}
	slowest, deadline := "", time.Duration(0)
	for _, name := range s.Destinations {
		if deadlines[name] > deadline {
			slowest, deadline = name, deadlines[name]
		}
	}
	switch {
	case takes+deadline < overlap:
		return nil
	case slowest == "":
		return rotation.Invalid(field, "check %s may take %s (watch_period, delay and attempts). The previous values are kept for %s only: lower these, or give the role a longer overlap", slow, rotation.Span(takes), rotation.Span(overlap))
	}
	return rotation.Invalid(field, "check %s may take %s (watch_period, delay and attempts) after destination %s, which may take %s (deadline): %s together. The previous values are kept for %s only: lower these, or give the role a longer overlap",
		slow, rotation.Span(takes), slowest, rotation.Span(deadline), rotation.Span(takes+deadline), rotation.Span(overlap))
}

// LongestBefore is for how long the checks of a role may hold up a rotation before it
// begins.
func LongestBefore(s *rotation.State) (takes time.Duration) {
	for _, raw := range s.Checks {
		if c, err := Decode(raw); err == nil { // else the rotation fails at once
			takes += c.longestBefore()
		}
	}
	return takes
}

// longest is the check of a role that may take longest after the cut-over.
func longest(s *rotation.State) (name string, takes time.Duration, err error) {
	for _, each := range Names(s) {
		c, err := Decode(s.Checks[each])
		if err != nil {
			return "", 0, err
		}
		if most := c.Longest(); c.Phase == After && most > takes {
			name, takes = each, most
		}
	}
	return name, takes, nil
}
