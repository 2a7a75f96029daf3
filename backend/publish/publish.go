package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// stage is that of the tasks that publish: before checks, which may depend on them.
const stage = 0

// Plan makes the tasks by which an operation publishes. What a required destination
// is sure to refuse keeps a rotation from beginning; one that can't be reached now
// has until its deadline.
func (d *Destinations) Plan(ctx context.Context, r *rotation.Role, urgent bool) ([]rotation.Task, error) {
	var tasks []rotation.Task
	for _, name := range r.Snapshot().Destinations {
		config, err := d.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		if config == nil {
			continue
		}
		if config.Required && !urgent {
			if err := d.preflight(ctx, r, config); errors.Is(err, destination.ErrRefused) || errors.Is(err, rotation.ErrInvalid) {
				return nil, fmt.Errorf("destination %s before the rotation: %w", name, err)
			}
		}
		tasks = append(tasks, rotation.Task{Name: rotation.DestinationTask + name, Required: config.Required, Stage: stage})
	}
	return tasks, nil
}

// preflight tries whether a role's values may be published.
func (d *Destinations) preflight(ctx context.Context, r *rotation.Role, config *destination.Config) error {
	ctx, cancel := context.WithTimeout(ctx, config.Timeout)
	defer cancel()
	values, err := d.ports.Values(r.Snapshot().State)
	if err != nil {
		return err
	}
	if err := config.CheckPlaceholders(slices.Sorted(maps.Keys(values))); err != nil {
		return err
	}
	names, err := config.Names(d.owner(r.Name), r.Name)
	if err != nil {
		return err
	}
	rule, err := d.ports.Rule(ctx)
	if err != nil {
		return err
	}
	return config.Target.Preflight(ctx, rule.For(config.Checked), names)
}

// owner marks what is published for a role by this mount.
func (d *Destinations) owner(role string) string { return d.ports.MountID() + "/" + role }

// copyOf is what a destination is to hold of a role now.
func (d *Destinations) copyOf(r *rotation.Role, config *destination.Config) (destination.Copy, error) {
	s := r.Snapshot()
	values, err := d.ports.Values(s.State)
	if err != nil {
		return destination.Copy{}, err
	}
	return config.Copy(d.owner(r.Name), r.Name, destination.Stamp{Version: s.Version, Time: s.LastRotation}, values)
}

// effort is how far the attempts to publish after a commit are. It is the data of
// the task.
type effort struct {
	Until    time.Time `json:"until"`
	Attempts int       `json:"attempts"`
}

// Attempt does the task of publishing to a destination once more. It has the copy
// reconciled, and waits for that.
func (d *Destinations) Attempt(ctx context.Context, r *rotation.Role, name string, t rotation.Task) rotation.Task {
	p := key{name, r.Name}
	config, err := d.Get(ctx, name)
	if err == nil && (config == nil || !slices.Contains(r.Snapshot().Destinations, name)) {
		t.Done, t.Dropped, t.Detail = true, true, "removed meanwhile"
		return t
	}
	if err == nil {
		err = d.reconcile(ctx, p, r, config, false)
	}
	if err == nil {
		t.Done, t.Detail = true, fmt.Sprintf("version %d is at %s", r.Snapshot().Version, config.Target.Where())
		return t
	}
	t = d.again(t, config, err)
	if t.Failed { // which what follows the commit has a record of
		d.plan(p, err)
	}
	return t
}

// again notes a failed attempt, and when the next one is, if there is to be one: soon,
// because a rotation waits.
func (d *Destinations) again(t rotation.Task, config *destination.Config, cause error) rotation.Task {
	var e effort
	_ = json.Unmarshal(t.Data, &e) // none before the first
	now := d.ports.Now()
	if e.Until.IsZero() && config != nil {
		e.Until = now.Add(config.Deadline)
	}
	t.Detail, t.Next = cause.Error(), now.Add(pause(e.Attempts, time.Second, 30*time.Second))
	e.Attempts++
	if permanent(cause) || config != nil && !t.Next.Before(e.Until) {
		t.Done, t.Failed = true, true
	}
	t.Data, _ = json.Marshal(e) // cannot fail
	return t
}

// permanent reports whether trying again is of no use until somebody changes
// something.
func permanent(err error) bool {
	return errors.Is(err, destination.ErrRefused) || errors.Is(err, rotation.ErrInvalid)
}
