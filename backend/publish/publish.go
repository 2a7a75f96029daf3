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

// wanted is what a destination is to hold of a role now.
func (d *Destinations) wanted(r *rotation.Role, config *destination.Config) (destination.Copy, error) {
	s := r.Snapshot()
	values, err := d.ports.Values(s.State)
	if err != nil {
		return destination.Copy{}, err
	}
	return config.Copy(d.owner(r.Name), r.Name, destination.Stamp{Version: s.Version, Time: s.LastRotation}, values)
}

// effort is until when what follows a commit waits for a copy. It is the data of the task.
type effort struct {
	Until time.Time `json:"until"`
}

// Do asks how it went to publish what was committed, once that is known. The task fails
// at its deadline, or at once if trying again is of no use.
func (d *Destinations) Do(ctx context.Context, r *rotation.Role, name string, t rotation.Task) rotation.Task {
	config, err := d.Get(ctx, name)
	if err == nil && (config == nil || !slices.Contains(r.Snapshot().Destinations, name)) {
		t.Done, t.Dropped, t.Detail = true, true, "removed meanwhile"
		return t
	}
	p, next := key{name, r.Name}, d.ports.Now().Add(time.Second)
	if err == nil {
		next, err = d.await(ctx, p, r)
	}
	if err == nil {
		t.Done, t.Detail = true, fmt.Sprintf("version %d is at %s", r.Snapshot().Version, config.Target.Where())
		return t
	}
	var e effort
	_ = json.Unmarshal(t.Data, &e) // none before the first
	if e.Until.IsZero() && config != nil {
		e.Until = d.ports.Now().Add(config.Deadline)
	}
	t.Data, _ = json.Marshal(e) // cannot fail
	t.Detail, t.Next = err.Error(), next
	if permanent(err) || config != nil && !next.Before(e.Until) {
		t.Done, t.Failed = true, true
		d.plan(p, 0, err) // without a record: what follows the commit has one
	}
	return t
}

// permanent reports whether trying again is of no use until somebody changes
// something.
func permanent(err error) bool {
	return errors.Is(err, destination.ErrRefused) || errors.Is(err, rotation.ErrInvalid)
}
