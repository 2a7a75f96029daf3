package publish

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

const (
	// compareEvery is how often targets are asked whether they still hold what they
	// were given.
	compareEvery = time.Hour
	// firstRetry and lastRetry are the pauses after an attempt that failed.
	firstRetry = time.Minute
	lastRetry  = time.Hour
	// lookPause and longestWait are the least and the most time between two looks at
	// all roles.
	lookPause   = 200 * time.Millisecond
	longestWait = time.Minute
)

// spreadOver moves the comparisons of different copies apart.
func spreadOver(p key, d time.Duration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.path()))
	return d * time.Duration(h.Sum32()%256) / 256
}

// Changed schedules reconciliation of the destinations that a role names. It never
// blocks.
func (d *Destinations) Changed(r *rotation.Role) {
	if len(r.Snapshot().Destinations) > 0 {
		d.Wake()
	}
}

// Wake makes Run look at all roles. It never blocks.
func (d *Destinations) Wake() {
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

// Run reconciles, until ctx ends.
func (d *Destinations) Run(ctx context.Context) {
	for wait := longestWait; ; {
		select {
		case <-ctx.Done():
			return
		case <-d.signal:
		case <-time.After(wait):
		}
		looked := d.ports.Now()
		d.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookPause):
		}
		wait = longestWait
		if retry, _ := d.NextRetry(looked); !retry.IsZero() {
			wait = min(wait, retry.Sub(d.ports.Now()))
		}
	}
}

// NextRetry returns when the first copy that failed is tried again, of those that were
// not due yet when all were looked at; zero if there is none. It also reports whether Run
// has been woken to look again. For what else is due Vault's timer is enough.
func (d *Destinations) NextRetry(looked time.Time) (retry time.Time, woken bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.known {
		if t.failures > 0 && t.next.After(looked) && (retry.IsZero() || t.next.Before(retry)) {
			retry = t.next
		}
	}
	return retry, len(d.signal) > 0
}

// look starts a worker for each destination that has something to do and none.
func (d *Destinations) look(ctx context.Context) {
	if d.ports.Mount() == "" { // which the first request or tick tells
		return
	}
	due := map[string][]*rotation.Role{}
	for _, r := range d.ports.Roles.Loaded() {
		for _, name := range r.Snapshot().Destinations {
			if d.due(ctx, name, r) {
				due[name] = append(due[name], r)
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, using := range due {
		if !d.working[name] {
			d.working[name] = true
			go d.work(ctx, name, using)
		}
	}
}

// due reports whether it is time to look after a copy. While an operation is under
// way, or publishes what it has committed, that is left to it.
func (d *Destinations) due(ctx context.Context, name string, r *rotation.Role) bool {
	s := r.Snapshot()
	if r.Busy() || s.InFlight != nil || publishing(s, name) {
		return false
	}
	t, err := d.of(ctx, key{name, r.Name})
	return err == nil && (!d.ports.Now().Before(t.next) || t.Version != s.Version && t.failures == 0)
}

// publishing reports whether what follows a commit has yet to publish there.
func publishing(s *rotation.Snapshot, name string) bool {
	if s.PostCommit == nil || s.NeedsAttention {
		return false
	}
	for _, t := range s.PostCommit.Tasks {
		if t.Name == rotation.DestinationTask+name && !t.Done {
			return true
		}
	}
	return false
}

// work looks after the copies at one destination. When it can't be reached, the
// rest waits.
func (d *Destinations) work(ctx context.Context, name string, using []*rotation.Role) {
	defer d.Wake() // for what came up meanwhile
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.working, name)
	}()
	for _, r := range using {
		config, err := d.Get(ctx, name)
		if err == nil && config != nil && d.due(ctx, name, r) {
			err = d.reconcile(ctx, key{name, r.Name}, r, config)
			d.noteFailure(key{name, r.Name}, err)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			d.ports.Log().Warn("destination does not hold what it should", "destination", name, "subject", r.Key, "error", err)
		}
		if err != nil && !permanent(err) {
			return
		}
	}
}

// noteFailure plans the next attempt after one that failed.
func (d *Destinations) noteFailure(p key, err error) {
	if err == nil {
		return
	}
	now := d.ports.Now()
	d.change(p, func(t *attempted) {
		t.next = now.Add(min(firstRetry<<min(t.failures, 10), lastRetry))
		t.failures++
	})
}

// reconcile makes one copy what it should be, and leaves a record of it if it was not.
func (d *Destinations) reconcile(ctx context.Context, p key, r *rotation.Role, config *destination.Config) error {
	wanted, err := d.wanted(r, config)
	if err != nil {
		return d.recordFailure(ctx, p, r, d.failed(ctx, p, r.Snapshot().Version, err))
	}
	t, err := d.of(ctx, p)
	if err != nil {
		return err
	}
	if t.ID == wanted.ID && (t.State == InSync || t.State == Drifted) {
		return d.compare(ctx, p, r, config, wanted)
	}
	if err := d.publish(ctx, p, r, config); err != nil {
		return d.recordFailure(ctx, p, r, err)
	}
	found := rotation.FoundUpdated
	if t.State == Failed || t.State == Drifted {
		found = rotation.FoundRestored
	}
	return d.record(ctx, p, r, found, fmt.Sprintf("version %d is at %s", wanted.Stamp.Version, config.Target.Where()))
}

// compare looks whether a target still holds a copy.
func (d *Destinations) compare(ctx context.Context, p key, r *rotation.Role, config *destination.Config, wanted destination.Copy) error {
	bounded, cancel := context.WithTimeout(ctx, config.Timeout)
	defer cancel()
	rule, err := d.ports.Rule(ctx)
	if err != nil {
		return err
	}
	differences, err := config.Compare(bounded, rule, wanted)
	if err != nil && !errors.Is(err, destination.ErrNoReading) {
		return err
	}
	before, err := d.of(ctx, p)
	if err != nil {
		return err
	}
	held := Status{State: InSync, ID: wanted.ID, Version: wanted.Stamp.Version}
	switch {
	case len(differences) > 0:
		held.State, held.Error = Drifted, strings.Join(differences, "; ")
		err = d.drifted(ctx, p, r, config, before, held)
	case before.State == Drifted:
		err = errors.Join(d.record(ctx, p, r, rotation.FoundRestored, config.Target.Where()+" holds what it should"), d.save(ctx, p, held))
	default:
		err = d.save(ctx, p, held)
	}
	if err == nil {
		now := d.ports.Now()
		d.change(p, func(t *attempted) { t.next, t.failures = now.Add(compareEvery), 0 })
	}
	return err
}

// drifted records that a target holds something else, once, and then repairs it.
func (d *Destinations) drifted(ctx context.Context, p key, r *rotation.Role, config *destination.Config, before attempted, found Status) error {
	if before.State != Drifted {
		if err := d.record(ctx, p, r, rotation.FoundDrifted, found.Error); err != nil {
			return err
		}
	}
	if err := d.save(ctx, p, found); err != nil || config.OnDrift == destination.Report {
		return err
	}
	if err := d.publish(ctx, p, r, config); err != nil {
		return err
	}
	return d.record(ctx, p, r, rotation.FoundRestored, fmt.Sprintf("version %d was published to %s again", found.Version, config.Target.Where()))
}

// recordFailure records the first of the failures in a row, and returns it.
func (d *Destinations) recordFailure(ctx context.Context, p key, r *rotation.Role, cause error) error {
	t, err := d.of(ctx, p)
	if err != nil || t.failures > 0 || ctx.Err() != nil {
		return cause
	}
	return errors.Join(cause, d.record(ctx, p, r, rotation.FoundFailing, cause.Error()))
}

// record adds to the history of a role what was found or done at a destination
// apart from any rotation.
func (d *Destinations) record(ctx context.Context, p key, r *rotation.Role, found rotation.Finding, detail string) error {
	rec := &rotation.Record{Operation: d.ports.NewOperation(rotation.KindPublish, rotation.TriggerSchedule), Outcome: rotation.OutcomeCompleted}
	t := rotation.Task{Name: rotation.DestinationTask + p.destination, Done: true, Finding: found, Detail: found.Explain(detail)}
	t.Failed = found == rotation.FoundDrifted || found == rotation.FoundFailing
	rec.Tasks, rec.Secrets, rec.Results = []rotation.Task{t}, []string{}, []rotation.SecretResult{}
	rec.Issues = []string{t.Name + ": " + t.Detail}
	if t.Failed {
		rec.Outcome = rotation.OutcomeFailed
	}
	return r.Note(ctx, rec)
}
