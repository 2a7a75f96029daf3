package backend

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// scheduler starts what roles do by themselves: rotations, retirements and
// recoveries. It holds no truth: every plan comes from a role's stored state, and
// all of them are made again when the process starts.
type scheduler struct {
	b *backend
	// signal makes run look at the plans again.
	signal chan struct{}
	// loaded is closed when everything has been read once, as far as it can be.
	loaded chan struct{}
	// missing says that some entries could not be read, complaint why; retry asks
	// run to try again.
	retry     atomic.Bool
	missing   bool
	complaint string

	mu sync.Mutex
	// seen is the latest time since plans were last looked at.
	seen  time.Time
	byKey map[string]*plan
	lanes map[string]*lane
}

// plan is when a role is next due.
type plan struct {
	role  *rotation.Role
	at    time.Time
	lane  *lane
	index int
}

func newScheduler(b *backend) *scheduler {
	return &scheduler{b: b, signal: make(chan struct{}, 1), loaded: make(chan struct{}), byKey: map[string]*plan{}, lanes: map[string]*lane{}}
}

// run loads all roles and then starts what is due, until ctx ends.
func (s *scheduler) run(ctx context.Context) {
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
func (s *scheduler) loadAll(ctx context.Context) {
	unread := s.b.registry.LoadAll(ctx)
	s.missing = unread != nil
	complaint := ""
	if unread != nil {
		complaint = unread.Error()
	}
	if s.missing && complaint != s.complaint && ctx.Err() == nil {
		s.b.log().Error("some entries cannot be read and are left alone", "error", unread)
	}
	s.complaint = complaint
}

// tick is wake for Vault's timer: what could not be read is tried again too.
func (s *scheduler) tick() {
	s.retry.Store(true)
	s.wake()
}

// wake makes run look at the plans now. It never blocks.
func (s *scheduler) wake() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// followClock makes all plans again when the clock was set back: what is stored may be
// further ahead now than it can be.
func (s *scheduler) followClock() {
	now := s.wallClock()
	s.mu.Lock()
	back := now.Before(s.seen)
	s.seen = now
	s.mu.Unlock()
	if back {
		for _, r := range s.b.registry.Loaded() {
			s.plan(r)
		}
	}
}

// wallClock is the time without what is monotonic about it.
func (s *scheduler) wallClock() time.Time { return s.b.now().Round(0) }

// plan notes when a role is next due. A role with a run under way has no plan:
// it is planned again when the run ends.
func (s *scheduler) plan(r *rotation.Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.wallClock()
	if now.After(s.seen) {
		s.seen = now // a clock that is ahead, and that no look at the plans has seen yet
	}
	action := r.Snapshot().NextAction(now)
	if r.Busy() || action.Kind == "" {
		s.unplanLocked(r.Key)
		return
	}
	s.unplanLocked(r.Key)
	p := &plan{role: r, at: action.At, lane: s.laneLocked(laneOf(r, action))}
	s.byKey[r.Key] = p
	heap.Push(&p.lane.plans, p)
	s.wake()
}

func (s *scheduler) unplanLocked(key string) {
	if p := s.byKey[key]; p != nil {
		heap.Remove(&p.lane.plans, p.index)
		delete(s.byKey, key)
		s.sweepLocked(p.lane)
	}
}

// dispatch starts what is due, as far as workers are free, and returns how long
// to wait for what comes next.
func (s *scheduler) dispatch(ctx context.Context) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, wait := s.b.now(), time.Hour
	for _, l := range s.lanes {
		wait = min(wait, s.startLocked(ctx, l, now))
	}
	return wait
}

// startLocked is dispatch for one lane.
func (s *scheduler) startLocked(ctx context.Context, l *lane, now time.Time) time.Duration {
	for len(l.plans) > 0 && l.working < s.b.workers() {
		next := l.plans[0]
		if wait := next.at.Sub(now); wait > 0 {
			return wait
		}
		l.working++
		s.unplanLocked(next.role.Key)
		go s.work(ctx, next.role, l)
	}
	return time.Hour
}

// work does what the role has due and plans it again.
func (s *scheduler) work(ctx context.Context, r *rotation.Role, l *lane) {
	err := s.perform(ctx, r)
	s.mu.Lock()
	l.working--
	s.sweepLocked(l)
	s.mu.Unlock()
	s.plan(r)
	s.wake()
	if err != nil && ctx.Err() == nil {
		s.b.log().Warn("automatic operation did not complete", "subject", r.Key, "error", err)
	}
}

// load tells how many operations are due and wait, and how many workers work.
func (s *scheduler) load() (due, busy int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.b.now()
	for _, l := range s.lanes {
		busy += l.working
		for _, p := range l.plans {
			if !p.at.After(now) {
				due++
			}
		}
	}
	return due, busy
}

func (s *scheduler) perform(ctx context.Context, r *rotation.Role) error {
	action := r.Snapshot().NextAction(s.b.now())
	if action.Kind == "" || action.At.After(s.b.now()) {
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
