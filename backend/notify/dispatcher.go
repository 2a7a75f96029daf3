package notify

import (
	"context"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// dispatcher delivers the events of all roles to one sink: those of a role in order,
// each until the sink has taken it. How far it is with a role is stored in a cursor, so
// that whoever is active next goes on there. What was delivered before its cursor was
// stored is delivered again, with the same id.
type dispatcher struct {
	ports  Ports
	name   string
	config Config
	ctx    context.Context //nolint:containedctx // the life of the dispatcher
	stop   context.CancelFunc
	signal chan struct{} // a role was enqueued
	ticked chan struct{} // time has passed

	// Only run's goroutine uses these, by key of the role. Cursors has those that were
	// read; reminded is when an Alertmanager was last sent what lasts of a role, and
	// leaves out roles of which nothing does.
	cursors  map[string]*cursor
	reminded map[string]time.Time

	mu sync.Mutex
	// queue are the roles to look at, in the order in which they were enqueued.
	queue    []*rotation.Role
	queued   map[*rotation.Role]bool
	failures int    // in a row
	problem  string // why the latest delivery failed, empty after a success
	retryAt  time.Time
}

// The pauses after failed deliveries.
const (
	firstRedelivery = time.Second
	lastRedelivery  = 5 * time.Minute
)

// startDispatcher delivers what is enqueued, until stop is called or ctx ends.
func startDispatcher(ctx context.Context, ports Ports, name string, config Config) *dispatcher {
	d := &dispatcher{
		ports: ports, name: name, config: config, signal: make(chan struct{}, 1), ticked: make(chan struct{}, 1),
		cursors: map[string]*cursor{}, reminded: map[string]time.Time{}, queued: map[*rotation.Role]bool{},
	}
	d.ctx, d.stop = context.WithCancel(ctx)
	go d.run()
	return d
}

// enqueue has the dispatcher look for new events of a role. It never blocks.
func (d *dispatcher) enqueue(r *rotation.Role) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queued[r] {
		return
	}
	d.queue, d.queued[r] = append(d.queue, r), true
	wake(d.signal)
}

// wake sends a signal, unless one is pending already.
func wake(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

func (d *dispatcher) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-timer.C:
		case <-d.signal:
		case <-d.ticked:
			d.enqueueByTime()
		}
		timer.Reset(d.drain())
	}
}

// enqueueByTime enqueues the roles that have events only because time has passed, or of
// which an Alertmanager is to be reminded.
func (d *dispatcher) enqueueByTime() {
	now := d.ports.Now()
	for _, r := range d.ports.Roles() {
		if !d.reminded[r.Key].IsZero() || len(d.timeEvents(r, r.Snapshot(), now)) > 0 {
			d.enqueue(r)
		}
	}
}

// drain goes through the queue until it is empty or a delivery fails, and returns how
// long to wait before the next attempt.
func (d *dispatcher) drain() time.Duration {
	for {
		r, wait := d.dequeue()
		if r == nil {
			return wait
		}
		err := d.deliver(r)
		if d.ctx.Err() != nil {
			return time.Hour
		}
		d.finish(r, err)
	}
}

// dequeue returns the first role in the queue, nil if it is not time for it.
func (d *dispatcher) dequeue() (*rotation.Role, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if wait := time.Until(d.retryAt); wait > 0 {
		return nil, wait
	}
	if d.ports.Mount() == "" { // known after the first request or tick
		return nil, firstRedelivery
	}
	if len(d.queue) == 0 {
		return nil, time.Hour
	}
	r := d.queue[0]
	d.queue = d.queue[1:]
	delete(d.queued, r)
	return r, 0
}

// finish takes down how a delivery went. A role whose delivery failed is enqueued again.
func (d *dispatcher) finish(r *rotation.Role, err error) {
	if err != nil {
		d.enqueue(r)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.failures, d.problem, d.retryAt = 0, "", time.Time{}
		return
	}
	if d.problem != err.Error() {
		d.ports.Log().Warn("alert is not delivered, and is tried again", "alert", d.name, "subject", r.Key, "error", err)
	}
	pause := firstRedelivery << min(d.failures, 10)
	d.failures, d.problem = d.failures+1, err.Error()
	d.retryAt = time.Now().Add(min(pause, lastRedelivery))
}

// deliver sends the events of a role that the sink has not taken yet, in order. The
// cursor is stored after the sink has taken what comes before it.
func (d *dispatcher) deliver(r *rotation.Role) error {
	at, err := d.cursor(r)
	if err != nil {
		return err
	}
	for {
		events, next, err := d.pending(r, *at)
		if err != nil {
			return err
		}
		if at.equal(next) {
			return d.remind(r, at)
		}
		for _, e := range events {
			if err := d.send(e); err != nil {
				return err
			}
			next.Lasting = d.lastingAfter(next.Lasting, e)
		}
		if len(events) > 0 {
			if err := d.saveCursor(r, next); err != nil {
				return err
			}
		}
		*at = next
	}
}

// send posts an event, as the rule of now allows.
func (d *dispatcher) send(e Event) error {
	rule, err := d.ports.Rule(d.ctx)
	if err != nil {
		return err
	}
	return d.config.Send(d.ctx, rule, e, time.Now())
}

// wanted returns the events that the sink is to get, and fills in where they are from.
func (d *dispatcher) wanted(r *rotation.Role, events []Event) []Event {
	var wanted []Event
	for _, e := range events {
		e.Role, e.Mount = nameInEvents(r), d.ports.Mount()
		if e.Environment == "" {
			e.Environment = d.ports.Environment()
		}
		if d.config.Wants(e) {
			wanted = append(wanted, e)
		}
	}
	return wanted
}

// nameInEvents is how events name a role or connection.
func nameInEvents(r *rotation.Role) string {
	if roles.IsConnection(r) {
		return "connections/" + r.Name
	}
	return r.Name
}

// status returns how many roles have events that are not delivered, and why the latest
// delivery failed.
func (d *dispatcher) status() (waiting int, lastError string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue), d.problem
}
