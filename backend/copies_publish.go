package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// plan makes the tasks by which an operation publishes. What a required destination
// is sure to refuse keeps a rotation from beginning; one that can't be reached now
// has until its deadline.
func (c *copies) plan(ctx context.Context, r *rotation.Role, urgent bool) ([]rotation.Task, error) {
	var tasks []rotation.Task
	for _, name := range r.Snapshot().Destinations {
		config, err := c.b.destination(ctx, name)
		if err != nil {
			return nil, err
		}
		if config == nil {
			continue
		}
		if config.Required && !urgent {
			if err := c.preflight(ctx, r, config); errors.Is(err, destination.ErrRefused) || errors.Is(err, rotation.ErrInvalid) {
				return nil, fmt.Errorf("destination %s before the rotation: %w", name, err)
			}
		}
		tasks = append(tasks, rotation.Task{Name: destinationTask + name, Required: config.Required, Stage: destinationStage})
	}
	return tasks, nil
}

// preflight tries whether a role's values may be published.
func (c *copies) preflight(ctx context.Context, r *rotation.Role, config *destination.Config) error {
	ctx, cancel := context.WithTimeout(ctx, config.Timeout)
	defer cancel()
	values, err := c.b.fieldValues(r.Snapshot().State)
	if err != nil {
		return err
	}
	if err := config.CheckPlaceholders(valueNames(values)); err != nil {
		return err
	}
	names, err := config.Names(c.owner(r.Name), r.Name)
	if err != nil {
		return err
	}
	rule, err := c.b.outboundRule(ctx, outbound.ForDestinations)
	if err != nil {
		return err
	}
	return config.Preflight(ctx, rule, names)
}

// owner marks what is published for a role by this mount.
func (c *copies) owner(role string) string { return c.b.uuid + "/" + role }

// wanted is what a destination is to hold of a role now.
func (c *copies) wanted(r *rotation.Role, config *destination.Config) (destination.Copy, error) {
	s := r.Snapshot()
	values, err := c.b.fieldValues(s.State)
	if err != nil {
		return destination.Copy{}, err
	}
	return config.Copy(c.owner(r.Name), r.Name, destination.Stamp{Version: s.Version, Time: s.LastRotation}, values)
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

// step does the task of publishing to a destination once more.
func (c *copies) step(ctx context.Context, r *rotation.Role, name string, t rotation.Task) rotation.Task {
	config, err := c.b.destination(ctx, name)
	if err == nil && (config == nil || !slices.Contains(r.Snapshot().Destinations, name)) {
		t.Done, t.Dropped, t.Detail = true, true, "removed meanwhile"
		return t
	}
	if err == nil {
		err = c.publish(ctx, copyKey{name, r.Name}, r, config)
	}
	if err == nil {
		t.Done, t.Detail = true, fmt.Sprintf("version %d is at %s", r.Snapshot().Version, config.Target.Where())
		return t
	}
	t = c.again(t, config, err)
	if t.Failed { // which what follows the commit has a record of
		c.noteFailure(copyKey{name, r.Name}, err)
	}
	return t
}

// again notes a failed attempt, and when the next one is, if there is to be one.
func (c *copies) again(t rotation.Task, config *destination.Config, cause error) rotation.Task {
	var e effort
	_ = json.Unmarshal(t.Data, &e) // none before the first
	now := c.b.now()
	if e.Until.IsZero() && config != nil {
		e.Until = now.Add(config.Deadline)
	}
	pause := min(firstPause<<min(e.Attempts, 10), lastPause)
	e.Attempts++
	t.Detail, t.Next = cause.Error(), now.Add(pause)
	if hopeless(cause) || config != nil && !t.Next.Before(e.Until) {
		t.Done, t.Failed = true, true
	}
	t.Data, _ = json.Marshal(e) // cannot fail
	return t
}

// hopeless reports whether trying again is of no use until somebody changes
// something.
func hopeless(err error) bool {
	return errors.Is(err, destination.ErrRefused) || errors.Is(err, rotation.ErrInvalid)
}

// publish makes a destination hold what a role has, and notes how that went.
func (c *copies) publish(ctx context.Context, p copyKey, r *rotation.Role, config *destination.Config) error {
	wanted, err := c.wanted(r, config)
	if err != nil {
		return c.failed(ctx, p, r.Snapshot().Version, err)
	}
	rule, err := c.b.outboundRule(ctx, outbound.ForDestinations)
	if err != nil {
		return err
	}
	before, err := c.of(ctx, p)
	if err != nil {
		return err
	}
	begun := published{State: before.State, ID: wanted.ID, Version: wanted.Stamp.Version, Error: before.Error}
	if begun.State == copyInSync {
		begun.State = copyPending
	}
	if err := c.save(ctx, p, begun); err != nil {
		return err
	}
	err = breakable(ctx, "copy-"+p.role+".publish", func() error {
		bounded, cancel := context.WithTimeout(ctx, config.Timeout)
		defer cancel()
		return config.Publish(bounded, rule, wanted)
	})
	if err != nil {
		return c.failed(ctx, p, wanted.Stamp.Version, err)
	}
	now := c.b.now()
	c.change(p, func(t *tended) { t.next, t.failures = now.Add(compareEvery), 0 })
	return c.save(ctx, p, published{State: copyInSync, ID: wanted.ID, Version: wanted.Stamp.Version})
}

// failed notes an attempt that failed, and returns why.
func (c *copies) failed(ctx context.Context, p copyKey, version int, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	before, err := c.of(ctx, p)
	if err != nil {
		return err
	}
	state := copyFailed
	if before.State == copyDrifted {
		state = copyDrifted
	}
	text := strings.ReplaceAll(cause.Error(), rotation.ErrInvalid.Error()+": ", "")
	if err := c.save(ctx, p, published{State: state, Version: version, Error: text}); err != nil {
		return errors.Join(cause, err)
	}
	return cause
}
