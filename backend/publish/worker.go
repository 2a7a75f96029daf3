package publish

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

const (
	// compareEvery is how often targets are asked whether they still hold what they
	// were given.
	compareEvery = time.Hour
	// lookPause is the least time between two looks at all roles.
	lookPause = 200 * time.Millisecond
	// maxAtOnce is how many copies at one destination are looked after at the same time,
	// but for those that rotations wait for.
	maxAtOnce = 8
)

// plan notes how an attempt ended, and when the next one is: soon if a rotation waits for
// that version, zero for none. Each pause is twice the one before.
func (d *Destinations) plan(p key, version int, cause error) {
	now, first, last := d.ports.Now(), time.Minute, time.Hour
	if version > 0 {
		first, last = time.Second, 30*time.Second
	}
	d.change(p, func(t *attempted) {
		if cause == nil || t.waited != version {
			t.failures = 0
		}
		t.cause, t.waited, t.next = cause, version, now.Add(compareEvery)
		if cause != nil {
			t.next = now.Add(min(first<<min(t.failures, 10), last))
			t.failures++
		}
	})
}

// spreadOver moves the comparisons of different copies apart.
func spreadOver(p key, d time.Duration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.path()))
	return d * time.Duration(h.Sum32()%256) / 256
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
	for {
		looked := d.ports.Now()
		d.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookPause):
		}
		var again <-chan time.Time
		if retry, _ := d.Load(looked); !retry.IsZero() {
			again = time.After(retry.Sub(d.ports.Now()))
		}
		select {
		case <-ctx.Done():
			return
		case <-d.signal:
		case <-again:
		}
	}
}

// Load returns when the next of the copies that failed is due which were not yet when
// all were looked at, zero if there is none, and whether Run has been woken to look
// again. For what else is due Vault's timer is enough.
func (d *Destinations) Load(looked time.Time) (retry time.Time, woken bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.known {
		if t.failures > 0 && t.next.After(looked) && (retry.IsZero() || t.next.Before(retry)) {
			retry = t.next
		}
	}
	return retry, len(d.signal) > 0
}

// look starts what is due.
func (d *Destinations) look(ctx context.Context) {
	for _, r := range d.ports.Roles.Loaded() {
		s := r.Snapshot()
		for _, name := range s.Destinations {
			if p := (key{name, r.Name}); d.due(ctx, p, r) {
				d.start(ctx, p, r, waits(s, name))
			}
		}
	}
}

// start looks after a copy in the background, unless that is done already, or for enough
// copies at that destination and no rotation waits.
func (d *Destinations) start(ctx context.Context, p key, r *rotation.Role, waited bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.busy[p] && (waited || d.working[p.destination] < maxAtOnce) {
		d.busy[p] = true
		d.working[p.destination]++
		go d.tend(ctx, p, r)
	}
}

// due reports whether it is time to look after a copy. While an operation is under
// way, that is left to what follows its commit.
func (d *Destinations) due(ctx context.Context, p key, r *rotation.Role) bool {
	t, err := d.of(ctx, p)
	switch s, now := r.Snapshot(), d.ports.Now(); {
	case err != nil:
		return false
	case waits(s, p.destination):
		return !t.answers(s, now)
	case d.ports.Mount() == "" || r.Busy() || s.InFlight != nil: // the first request or tick tells the mount
		return false
	default:
		return !now.Before(t.next) || t.Version != s.Version && t.failures == 0
	}
}

// waits reports whether a rotation waits for what it has committed to be published
// there.
func waits(s *rotation.Snapshot, name string) bool {
	return s.PostCommit != nil && s.InFlight == nil && !s.NeedsAttention && slices.Contains(s.Destinations, name) &&
		slices.ContainsFunc(s.PostCommit.Tasks, func(t rotation.Task) bool {
			return t.Name == rotation.DestinationTask+name && !t.Done
		})
}

// answers reports whether it is known how it went to publish what a role has, until the
// next attempt.
func (t attempted) answers(s *rotation.Snapshot, now time.Time) bool {
	failed := t.failures > 0 && (t.waited == s.Version || t.Version == s.Version)
	return t.stateFor(s) == InSync || failed && now.Before(t.next)
}

// await waits for how it went to publish what a role has, and returns when the next
// attempt is if that failed.
func (d *Destinations) await(ctx context.Context, p key, r *rotation.Role) (next time.Time, err error) {
	d.look(ctx)
	for {
		d.mu.Lock()
		t, changed := d.known[p], d.changed
		d.mu.Unlock()
		switch s, now := r.Snapshot(), d.ports.Now(); {
		case t.answers(s, now):
			return t.next, t.cause
		case !waits(s, p.destination):
			return now.Add(time.Second), errGone
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// errGone says that there is nothing to publish any more.
var errGone = errors.New("there is no such destination")

// tend looks after one copy, once. Failures for which no rotation waits are logged.
func (d *Destinations) tend(ctx context.Context, p key, r *rotation.Role) {
	defer d.Wake() // for what came up meanwhile
	v := &visit{Destinations: d, p: p, role: r}
	if s := r.Snapshot(); waits(s, p.destination) {
		v.version = s.Version
	}
	err := v.reconcile(ctx)
	d.plan(p, v.version, err)
	if err != nil && v.version == 0 && ctx.Err() == nil {
		d.ports.Log().Warn("destination does not hold what it should", "destination", p.destination, "subject", r.Key, "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.busy, p)
	d.working[p.destination]--
}
