package backend

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

const (
	// compareEvery is how often targets are asked whether they still hold what they
	// were given.
	compareEvery = time.Hour
	// firstTending and lastTending are the pauses after an attempt that failed.
	firstTending = time.Minute
	lastTending  = time.Hour
	// lookPause is the least time between two looks at all roles.
	lookPause = 200 * time.Millisecond
)

// spreadOver moves the comparisons of different copies apart.
func spreadOver(p copyKey, d time.Duration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.key()))
	return d * time.Duration(h.Sum32()%256) / 256
}

// note makes a role be looked at that names destinations. It never blocks.
func (c *copies) note(r *rotation.Role) {
	if len(r.Snapshot().Destinations) > 0 {
		c.wake()
	}
}

// wake makes run look at all roles. It never blocks.
func (c *copies) wake() {
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

// run tends copies, until ctx ends.
func (c *copies) run(ctx context.Context) {
	for wait := longestWait; ; {
		select {
		case <-ctx.Done():
			return
		case <-c.signal:
		case <-time.After(wait):
		}
		looked := c.b.now()
		c.look(ctx)
		if !pause(ctx, lookPause) {
			return
		}
		wait = c.untilRetry(looked)
	}
}

// untilRetry is how long it is until a copy that failed is due, of those that were not
// yet when all were looked at. For what else is due Vault's timer is enough.
func (c *copies) untilRetry(looked time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, wait := c.b.now(), longestWait
	for _, t := range c.known {
		if t.failures > 0 && t.next.After(looked) {
			wait = min(wait, t.next.Sub(now))
		}
	}
	return wait
}

// look starts a worker for each destination that has something to do and none.
func (c *copies) look(ctx context.Context) {
	if c.b.mountPath() == "" { // which the first request or tick tells
		return
	}
	due := map[string][]*rotation.Role{}
	for _, r := range c.b.registry.Loaded() {
		for _, name := range r.Snapshot().Destinations {
			if c.due(ctx, name, r) {
				due[name] = append(due[name], r)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, using := range due {
		if !c.working[name] {
			c.working[name] = true
			go c.work(ctx, name, using)
		}
	}
}

// due reports whether it is time to look after a copy. While an operation is under
// way, or publishes what it has committed, that is left to it.
func (c *copies) due(ctx context.Context, name string, r *rotation.Role) bool {
	s := r.Snapshot()
	if r.Busy() || s.InFlight != nil || publishing(s, name) {
		return false
	}
	t, err := c.of(ctx, copyKey{name, r.Name})
	return err == nil && (!c.b.now().Before(t.next) || t.Version != s.Version && t.failures == 0)
}

// publishing reports whether what follows a commit has yet to publish there.
func publishing(s *rotation.Snapshot, name string) bool {
	if s.Following == nil || s.NeedsAttention {
		return false
	}
	for _, t := range s.Following.Tasks {
		if t.Name == destinationTask+name && !t.Done {
			return true
		}
	}
	return false
}

// work looks after the copies at one destination. When it can't be reached, the
// rest waits.
func (c *copies) work(ctx context.Context, name string, using []*rotation.Role) {
	defer c.wake() // for what came up meanwhile
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.working, name)
	}()
	for _, r := range using {
		config, err := c.b.destination(ctx, name)
		if err == nil && config != nil && c.due(ctx, name, r) {
			err = c.tend(ctx, copyKey{name, r.Name}, r, config)
			c.noteFailure(copyKey{name, r.Name}, err)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.b.log().Warn("destination does not hold what it should", "destination", name, "subject", r.Key, "error", err)
		}
		if err != nil && !hopeless(err) {
			return
		}
	}
}

// noteFailure plans the next attempt after one that failed.
func (c *copies) noteFailure(p copyKey, err error) {
	if err == nil {
		return
	}
	now := c.b.now()
	c.change(p, func(t *tended) {
		t.next = now.Add(min(firstTending<<min(t.failures, 10), lastTending))
		t.failures++
	})
}

// tend makes one copy what it should be, and leaves a record of it if it was not.
func (c *copies) tend(ctx context.Context, p copyKey, r *rotation.Role, config *destination.Config) error {
	wanted, err := c.wanted(r, config)
	if err != nil {
		return c.recordFailure(ctx, p, r, c.failed(ctx, p, r.Snapshot().Version, err))
	}
	t, err := c.of(ctx, p)
	if err != nil {
		return err
	}
	if t.ID == wanted.ID && (t.State == copyInSync || t.State == copyDrifted) {
		return c.compare(ctx, p, r, config, wanted)
	}
	if err := c.publish(ctx, p, r, config); err != nil {
		return c.recordFailure(ctx, p, r, err)
	}
	found := rotation.FoundUpdated
	if t.State == copyFailed || t.State == copyDrifted {
		found = rotation.FoundRestored
	}
	return c.record(ctx, p, r, found, fmt.Sprintf("version %d is at %s", wanted.Stamp.Version, config.Target.Where()))
}

// compare looks whether a target still holds a copy.
func (c *copies) compare(ctx context.Context, p copyKey, r *rotation.Role, config *destination.Config, wanted destination.Copy) error {
	bounded, cancel := context.WithTimeout(ctx, config.Timeout)
	defer cancel()
	rule, err := c.b.outboundRule(ctx, outbound.ForDestinations)
	if err != nil {
		return err
	}
	differences, err := config.Compare(bounded, rule, wanted)
	if err != nil && !errors.Is(err, destination.ErrNoReading) {
		return err
	}
	before, err := c.of(ctx, p)
	if err != nil {
		return err
	}
	held := published{State: copyInSync, ID: wanted.ID, Version: wanted.Stamp.Version}
	switch {
	case len(differences) > 0:
		held.State, held.Error = copyDrifted, strings.Join(differences, "; ")
		err = c.drifted(ctx, p, r, config, before, held)
	case before.State == copyDrifted:
		err = errors.Join(c.record(ctx, p, r, rotation.FoundRestored, config.Target.Where()+" holds what it should"), c.save(ctx, p, held))
	default:
		err = c.save(ctx, p, held)
	}
	if err == nil {
		now := c.b.now()
		c.change(p, func(t *tended) { t.next, t.failures = now.Add(compareEvery), 0 })
	}
	return err
}

// drifted records that a target holds something else, once, and then repairs it.
func (c *copies) drifted(ctx context.Context, p copyKey, r *rotation.Role, config *destination.Config, before tended, found published) error {
	if before.State != copyDrifted {
		if err := c.record(ctx, p, r, rotation.FoundDrifted, found.Error); err != nil {
			return err
		}
	}
	if err := c.save(ctx, p, found); err != nil || config.OnDrift == destination.Report {
		return err
	}
	if err := c.publish(ctx, p, r, config); err != nil {
		return err
	}
	return c.record(ctx, p, r, rotation.FoundRestored, fmt.Sprintf("version %d was published to %s again", found.Version, config.Target.Where()))
}

// recordFailure records the first of the failures in a row, and returns it.
func (c *copies) recordFailure(ctx context.Context, p copyKey, r *rotation.Role, cause error) error {
	t, err := c.of(ctx, p)
	if err != nil || t.failures > 0 || ctx.Err() != nil {
		return cause
	}
	return errors.Join(cause, c.record(ctx, p, r, rotation.FoundFailing, cause.Error()))
}

// record adds to the history of a role what was found or done at a destination
// apart from any rotation.
func (c *copies) record(ctx context.Context, p copyKey, r *rotation.Role, found rotation.Finding, detail string) error {
	rec := &rotation.Record{Operation: c.b.engine.NewOperation(rotation.KindPublish, rotation.TriggerSchedule), Outcome: rotation.OutcomeCompleted}
	t := rotation.Task{Name: destinationTask + p.destination, Done: true, Finding: found, Detail: found.Explain(detail)}
	t.Failed = found == rotation.FoundDrifted || found == rotation.FoundFailing
	rec.Tasks, rec.Secrets, rec.Results = []rotation.Task{t}, []string{}, []rotation.SecretResult{}
	rec.Issues = []string{t.Name + ": " + t.Detail}
	if t.Failed {
		rec.Outcome = rotation.OutcomeFailed
	}
	return r.Note(ctx, rec)
}
