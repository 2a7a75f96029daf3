package notify

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// courier delivers the events of all roles to one sink: those of a role in order,
// each until the sink has taken it. How far it is with a role is stored, so that
// whoever is active next goes on there; what was delivered and not noted is
// delivered again, with the same id.
type courier struct {
	ports  Ports
	name   string
	config Config
	ctx    context.Context //nolint:containedctx // the life of the courier
	stop   context.CancelFunc
	signal chan struct{} // a role was noted
	ticked chan struct{} // time has passed

	// reminded is when an Alertmanager was last told what lasts, by key of the role; a
	// role of which nothing lasts is left out. It belongs to run, as cursors do.
	reminded map[string]time.Time
	cursors  map[string]*cursor // by key of the role, only as far as read

	mu sync.Mutex
	// waiting are the roles to look at, in the order in which they were noted.
	waiting []*rotation.Role
	noted   map[*rotation.Role]bool // those that are waiting
	failed  int                     // deliveries in a row
	problem string                  // why the latest one failed, empty after a success
	retryAt time.Time
}

// The pauses after failed deliveries.
const (
	firstRedelivery = time.Second
	lastRedelivery  = 5 * time.Minute
)

func newCourier(ctx context.Context, ports Ports, name string, config Config) *courier {
	c := &courier{
		ports: ports, name: name, config: config, signal: make(chan struct{}, 1), ticked: make(chan struct{}, 1),
		cursors: map[string]*cursor{}, noted: map[*rotation.Role]bool{}, reminded: map[string]time.Time{},
	}
	c.ctx, c.stop = context.WithCancel(ctx)
	for _, r := range ports.Roles() {
		c.note(r)
	}
	go c.run()
	return c
}

// note makes the courier look at a role. It never blocks.
func (c *courier) note(r *rotation.Role) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noted[r] {
		return
	}
	c.waiting, c.noted[r] = append(c.waiting, r), true
	wake(c.signal)
}

// wake has whoever listens go on. It never blocks.
func wake(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

func (c *courier) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-timer.C:
		case <-c.signal:
		case <-c.ticked:
			c.look()
		}
		timer.Reset(c.deliver())
	}
}

// look notes the roles for which only time has passed.
func (c *courier) look() {
	now := c.ports.Now()
	for _, r := range c.ports.Roles() {
		if s := r.Snapshot(); !c.reminded[r.Key].IsZero() || len(c.timely(r, s, now)) > 0 {
			c.note(r)
		}
	}
}

// deliver goes through the waiting roles until one delivery fails, and returns how
// long to wait before the next attempt.
func (c *courier) deliver() time.Duration {
	for {
		r, wait := c.next()
		if r == nil {
			return wait
		}
		err := c.tell(r)
		if c.ctx.Err() != nil {
			return time.Hour
		}
		c.done(r, err)
	}
}

// next returns the role that is first in the queue, if it is time for it.
func (c *courier) next() (*rotation.Role, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := time.Until(c.retryAt); wait > 0 {
		return nil, wait
	}
	if c.ports.Mount() == "" { // which the first request or tick tells
		return nil, firstRedelivery
	}
	if len(c.waiting) == 0 {
		return nil, time.Hour
	}
	r := c.waiting[0]
	c.waiting = c.waiting[1:]
	delete(c.noted, r)
	return r, 0
}

// done notes how a delivery went. After a failure the role is looked at again.
func (c *courier) done(r *rotation.Role, err error) {
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.failed, c.problem, c.retryAt = 0, "", time.Time{}
		return
	}
	c.note(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.problem != err.Error() {
		c.ports.Log().Warn("alert is not delivered, and is tried again", "alert", c.name, "subject", r.Key, "error", err)
	}
	pause := firstRedelivery << min(c.failed, 10)
	c.failed, c.problem = c.failed+1, err.Error()
	c.retryAt = time.Now().Add(min(pause, lastRedelivery))
}

// tell delivers what a role has to tell, one event after the other.
func (c *courier) tell(r *rotation.Role) error {
	at, err := c.cursor(r)
	if err != nil {
		return err
	}
	for {
		events, next, err := c.pending(r, *at)
		if err != nil {
			return err
		}
		if at.same(next) {
			return c.remind(r, at)
		}
		for _, e := range events {
			if err := c.ports.Send(c.ctx, c.config, e, time.Now()); err != nil {
				return err
			}
			next.Lasting = c.lastingAfter(next.Lasting, e)
		}
		if len(events) > 0 {
			if err := c.keep(r, next); err != nil {
				return err
			}
		}
		*at = next
	}
}

// pending returns the next events of a role and where the cursor is after them:
// one entry of the history at a time, and then what is the case now.
func (c *courier) pending(r *rotation.Role, at cursor) ([]Event, cursor, error) {
	s := r.Snapshot()
	entries, err := r.Since(c.ctx, at.Sequence, 1)
	if err != nil {
		return nil, at, err
	}
	if len(entries) == 0 {
		events := c.present(r, s, &at)
		return c.wanted(r, events), at, nil
	}
	rec, err := entries[0].Decode()
	if err != nil {
		return nil, at, err
	}
	newest := entries[0].Sequence == s.History.Count
	events := FromRecord(rec, newest && s.NeedsAttention)
	if at.Started == rec.ID {
		events = events[1:] // that it began
	}
	if names := Repaired(rec); len(names) > 0 {
		if at.Refused != "" {
			events = nil // that they were refused
		}
		at.Refused = refusalsOf(s, names).String()
	}
	at.Sequence = entries[0].Sequence
	return c.wanted(r, events), at, nil
}

// present returns the events of what is the case now, and was not told.
func (c *courier) present(r *rotation.Role, s *rotation.Snapshot, at *cursor) []Event {
	if op := s.InFlight; op != nil && op.Kind == rotation.KindRotate && at.Started != op.ID {
		at.Started = op.ID
		return []Event{Started(*op)}
	}
	return slices.Concat(c.untold(c.timely(r, s, c.ports.Now()), s, at), c.refusing(r, s, at), c.unresolved(r, s, at))
}

// timely returns the events that only time brings about.
func (c *courier) timely(r *rotation.Role, s *rotation.Snapshot, now time.Time) []Event {
	next := s.NextRotation
	if s.Deleted || !s.Policy.AutoRotate || next.IsZero() {
		return nil
	}
	var events []Event
	if left := next.Sub(now); left > 0 && left <= c.config.Notice && c.config.Notice < s.Terms.Interval {
		e := NewEvent(RotationDueSoon, r.Key+"-"+next.Format(time.RFC3339), "Secret rotation is due at "+next.Format(time.RFC3339))
		e.Time = now
		events = append(events, e)
	}
	if s.Overdue(now) {
		e := NewEvent(RotationOverdue, r.Key+"-"+next.Format(time.RFC3339), "Secret rotation was due at "+next.Format(time.RFC3339)+" and has not happened")
		e.Time = now
		events = append(events, e)
	}
	return events
}

// untold leaves out what was told of this rotation already.
func (c *courier) untold(events []Event, s *rotation.Snapshot, at *cursor) []Event {
	var untold []Event
	for _, e := range events {
		of := &at.DueSoon
		if e.Event == RotationOverdue {
			of = &at.Overdue
		}
		if !of.Equal(s.NextRotation) {
			untold, *of = append(untold, e), s.NextRotation
		}
	}
	return untold
}

// wanted leaves out what the sink is not to get, and says where the rest is from.
func (c *courier) wanted(r *rotation.Role, events []Event) []Event {
	var wanted []Event
	for _, e := range events {
		e.Role, e.Mount = told(r), c.ports.Mount()
		if e.Environment == "" {
			e.Environment = c.ports.Environment()
		}
		if c.config.Wants(e) {
			wanted = append(wanted, e)
		}
	}
	return wanted
}

// State tells how the courier is doing: how many roles wait, and why.
func (c *courier) State() (waiting int, problem string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting), c.problem
}
