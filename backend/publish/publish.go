package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	return config.Preflight(ctx, rule, names)
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

// effort is how far the attempts to publish after a commit are. It is the data of
// the task.
type effort struct {
	Until    time.Time `json:"until"`
	Attempts int       `json:"attempts"`
}

// The pauses between two attempts after a commit.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// Attempt does the task of publishing to a destination once more.
func (d *Destinations) Attempt(ctx context.Context, r *rotation.Role, name string, t rotation.Task) rotation.Task {
	config, err := d.Get(ctx, name)
	if err == nil && (config == nil || !slices.Contains(r.Snapshot().Destinations, name)) {
		t.Done, t.Dropped, t.Detail = true, true, "removed meanwhile"
		return t
	}
	if err == nil {
		err = d.publish(ctx, key{name, r.Name}, r, config)
	}
	if err == nil {
		t.Done, t.Detail = true, fmt.Sprintf("version %d is at %s", r.Snapshot().Version, config.Target.Where())
		return t
	}
	t = d.again(t, config, err)
	if t.Failed { // which what follows the commit has a record of
		d.noteFailure(key{name, r.Name}, err)
	}
	return t
}

// again notes a failed attempt, and when the next one is, if there is to be one.
func (d *Destinations) again(t rotation.Task, config *destination.Config, cause error) rotation.Task {
	var e effort
	_ = json.Unmarshal(t.Data, &e) // none before the first
	now := d.ports.Now()
	if e.Until.IsZero() && config != nil {
		e.Until = now.Add(config.Deadline)
	}
	pause := min(firstPause<<min(e.Attempts, 10), lastPause)
	e.Attempts++
	t.Detail, t.Next = cause.Error(), now.Add(pause)
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

// publish makes a destination hold what a role has, and notes how that went.
func (d *Destinations) publish(ctx context.Context, p key, r *rotation.Role, config *destination.Config) error {
	wanted, err := d.wanted(r, config)
	if err != nil {
		return d.failed(ctx, p, r.Snapshot().Version, err)
	}
	rule, err := d.ports.Rule(ctx)
	if err != nil {
		return err
	}
	before, err := d.of(ctx, p)
	if err != nil {
		return err
	}
	begun := Status{State: before.State, ID: wanted.ID, Version: wanted.Stamp.Version, Error: before.Error}
	if begun.State == InSync {
		begun.State = Pending
	}
	if err := d.save(ctx, p, begun); err != nil {
		return err
	}
	err = d.ports.Failpoint(ctx, "copy-"+p.role+".publish", func() error {
		bounded, cancel := context.WithTimeout(ctx, config.Timeout)
		defer cancel()
		return config.Publish(bounded, rule, wanted)
	})
	if err != nil {
		return d.failed(ctx, p, wanted.Stamp.Version, err)
	}
	now := d.ports.Now()
	d.change(p, func(t *attempted) { t.next, t.failures = now.Add(compareEvery), 0 })
	return d.save(ctx, p, Status{State: InSync, ID: wanted.ID, Version: wanted.Stamp.Version})
}

// failed notes an attempt that failed, and returns why.
func (d *Destinations) failed(ctx context.Context, p key, version int, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	before, err := d.of(ctx, p)
	if err != nil {
		return err
	}
	state := Failed
	if before.State == Drifted {
		state = Drifted
	}
	text := strings.ReplaceAll(cause.Error(), rotation.ErrInvalid.Error()+": ", "")
	if err := d.save(ctx, p, Status{State: state, Version: version, Error: text}); err != nil {
		return errors.Join(cause, err)
	}
	return cause
}
