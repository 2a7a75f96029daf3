package publish

import (
	"context"
	"hash/fnv"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

const (
	// compareEvery is how often targets are asked whether they still hold what they
	// were given.
	compareEvery = time.Hour
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
			err = d.reconcile(ctx, key{name, r.Name}, r, config, true)
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

// plan notes how an attempt ended, and when the next one is.
func (d *Destinations) plan(p key, err error) {
	now := d.ports.Now()
	d.change(p, func(t *attempted) {
		if err == nil {
			t.next, t.failures = now.Add(compareEvery), 0
			return
		}
		t.next = now.Add(pause(t.failures, time.Minute, time.Hour))
		t.failures++
	})
}

// pause is the time between a failed attempt and the next one: twice as long after each
// failure before.
func pause(failures int, first, last time.Duration) time.Duration {
	return min(first<<min(failures, 10), last)
}
