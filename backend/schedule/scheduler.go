// Package schedule starts what roles do by themselves, when it is due and workers are
// free. Roles that need the same servers wait for each other, and for nobody else.
package schedule

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Ports are what the scheduler needs of the mount.
type Ports struct {
	Roles Roles
	// Connections names the connections that a role's secrets need.
	Connections func(r *rotation.Role) []string
	// Workers is how many roles of one queue may work at the same time.
	Workers func() int
	Now     func() time.Time
	Log     func() hclog.Logger
}

// Roles are all roles and connections.
type Roles interface {
	// LoadAll reads all that is stored. What can't be read is in the error.
	LoadAll(ctx context.Context) error
	// Loaded returns what is in memory.
	Loaded() []*rotation.Role
}

// Scheduler starts what roles do by themselves: rotations, retirements and
// recoveries. It holds no truth: every plan comes from a role's stored state, and
// all of them are made again when the process starts.
type Scheduler struct {
	ports Ports
	// signal makes Run look at the plans again.
	signal chan struct{}
	// loaded is closed when everything has been read once, as far as it can be.
	loaded chan struct{}
	// missing says that some entries could not be read, complaint why; retry asks
	// Run to try again.
	retry     atomic.Bool
	missing   bool
	complaint string

	mu sync.Mutex
	// seen is the latest time since plans were last looked at.
	seen  time.Time
	byKey map[string]*plan
	// queues are those that somebody is in, by their connections.
	queues map[string]*queue
}

// plan is when a role is next due.
type plan struct {
	role  *rotation.Role
	at    time.Time
	queue *queue
	index int
}

// New returns a scheduler that has nothing planned.
func New(ports Ports) *Scheduler {
	return &Scheduler{ports: ports, signal: make(chan struct{}, 1), loaded: make(chan struct{}), byKey: map[string]*plan{}, queues: map[string]*queue{}}
}

// Loaded is closed when everything has been read once, as far as it can be.
func (s *Scheduler) Loaded() <-chan struct{} { return s.loaded }

// Run loads all roles and then starts what is due, until ctx ends.
func (s *Scheduler) Run(ctx context.Context) {
	s.loadAll(ctx)
	close(s.loaded)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.signal:
		}
		if s.retry.Swap(false) && s.missing {
			s.loadAll(ctx)
		}
		s.followClock()
		timer.Reset(s.dispatch(ctx))
	}
}

// loadAll rebuilds the plans from storage. What cannot be read is left alone and tried
// again at every tick of Vault's; the same complaint is logged once.
func (s *Scheduler) loadAll(ctx context.Context) {
	unread := s.ports.Roles.LoadAll(ctx)
	s.missing = unread != nil
	complaint := ""
	if unread != nil {
		complaint = unread.Error()
	}
	if s.missing && complaint != s.complaint && ctx.Err() == nil {
		s.ports.Log().Error("some entries cannot be read and are left alone", "error", unread)
	}
	s.complaint = complaint
}

// Tick is wake for Vault's timer: what could not be read is tried again too.
func (s *Scheduler) Tick() {
	s.retry.Store(true)
	s.wake()
}

// wake makes Run look at the plans now. It never blocks.
func (s *Scheduler) wake() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// followClock makes all plans again when the clock was set back: what is stored may be
// further ahead now than it can be.
func (s *Scheduler) followClock() {
	now := s.wallClock()
	s.mu.Lock()
	back := now.Before(s.seen)
	s.seen = now
	s.mu.Unlock()
	if back {
		for _, r := range s.ports.Roles.Loaded() {
			s.Plan(r)
		}
	}
}

// wallClock is the time without what is monotonic about it.
func (s *Scheduler) wallClock() time.Time { return s.ports.Now().Round(0) }

// Plan notes when a role is next due, and returns that; zero if never. A role with a run
// under way has no plan: it is planned again when the run ends.
func (s *Scheduler) Plan(r *rotation.Role) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.wallClock()
	if now.After(s.seen) {
		s.seen = now // a clock that is ahead, and that no look at the plans has seen yet
	}
	action := r.Snapshot().NextAction(now)
	s.unplanLocked(r.Key)
	if r.Busy() || action.Kind == "" {
		return time.Time{}
	}
	p := &plan{role: r, at: action.At, queue: s.queueLocked(s.connectionsOf(r, action))}
	s.byKey[r.Key] = p
	heap.Push(&p.queue.plans, p)
	s.wake()
	return p.at
}

func (s *Scheduler) unplanLocked(key string) {
	if p := s.byKey[key]; p != nil {
		heap.Remove(&p.queue.plans, p.index)
		delete(s.byKey, key)
		s.sweepLocked(p.queue)
	}
}

// dispatch starts what is due, as far as workers are free, and returns how long
// to wait for what comes next.
func (s *Scheduler) dispatch(ctx context.Context) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, wait := s.ports.Now(), time.Hour
	for _, q := range s.queues {
		wait = min(wait, s.startLocked(ctx, q, now))
	}
	return wait
}

// startLocked is dispatch for one queue.
func (s *Scheduler) startLocked(ctx context.Context, q *queue, now time.Time) time.Duration {
	for len(q.plans) > 0 && q.working < s.ports.Workers() {
		next := q.plans[0]
		if wait := next.at.Sub(now); wait > 0 {
			return wait
		}
		q.working++
		s.unplanLocked(next.role.Key)
		go s.work(ctx, next.role, q)
	}
	return time.Hour
}

// work does what the role has due and plans it again.
func (s *Scheduler) work(ctx context.Context, r *rotation.Role, q *queue) {
	err := s.runDue(ctx, r)
	s.mu.Lock()
	q.working--
	s.sweepLocked(q)
	s.mu.Unlock()
	s.Plan(r)
	s.wake()
	if err != nil && ctx.Err() == nil {
		s.ports.Log().Warn("automatic operation did not complete", "subject", r.Key, "error", err)
	}
}

// Load tells how many operations are due and wait, and how many workers work.
func (s *Scheduler) Load() (due, busy int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.ports.Now()
	for _, q := range s.queues {
		busy += q.working
		for _, p := range q.plans {
			if !p.at.After(now) {
				due++
			}
		}
	}
	return due, busy
}

// runDue does what the role has due, if it still has, and waits for it.
func (s *Scheduler) runDue(ctx context.Context, r *rotation.Role) error {
	action := r.Snapshot().NextAction(s.ports.Now())
	if action.Kind == "" || action.At.After(s.ports.Now()) {
		return nil
	}
	run, err := r.Start(ctx, rotation.Request{
		Kind: action.Kind, Trigger: rotation.TriggerSchedule, RevokePrevious: roles.IsConnection(r),
	})
	if errors.Is(err, rotation.ErrInFlight) {
		return nil
	}
	if err != nil {
		return err
	}
	<-run.Done()
	_, err = run.Result()
	return err
}
