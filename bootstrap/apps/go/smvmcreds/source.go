package smvmcreds

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// defaultMinInterval is the default of Options.MinInterval.
	defaultMinInterval = 500 * time.Millisecond
	// readTimeout bounds one read.
	readTimeout = 10 * time.Second
	// maxBackoff is the longest pause after reads that did not succeed.
	maxBackoff = 15 * time.Second
)

// Reader reads the current credentials: a Vault, or anything else that knows them.
type Reader interface {
	// Read returns the credentials of now. It is given those that were read last,
	// nil at first.
	Read(ctx context.Context, have *Credentials) (*Credentials, error)
}

// Options are the settings of a Source. The zero value is what most want.
type Options struct {
	// MinInterval is the least time between two reads, however many are asked
	// for; 500 ms by default.
	MinInterval time.Duration
	// Logger is told about new versions and failed reads, never about values;
	// slog.Default() by default.
	Logger *slog.Logger
}

// Source holds the current credentials of a role and keeps them current. All of
// its methods may be called at the same time.
type Source struct {
	reader  Reader
	options Options
	current atomic.Pointer[Credentials]
	// confirmed are the newest that a later read, their TTL or more after the first
	// one, has found again. Newer ones other instances may not have read yet.
	confirmed atomic.Pointer[Credentials]
	due       time.Time    // a read that begins before confirms nothing
	failing   atomic.Int64 // reads in a row that did not succeed
	wake      chan struct{}
	stop      context.CancelFunc
	done      chan struct{}

	mu       sync.Mutex
	coming   *round
	watchers []func(context.Context, *Credentials)
}

// round is one read that somebody waits for.
type round struct {
	done chan struct{}
	err  error // valid when done is closed
}

// Open reads the credentials, again and again until it works or ctx ends, and
// keeps them current until Close.
func Open(ctx context.Context, reader Reader, options Options) (*Source, error) {
	if options.MinInterval == 0 {
		options.MinInterval = defaultMinInterval
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	s := &Source{reader: reader, options: options, wake: make(chan struct{}, 1), done: make(chan struct{})}
	for {
		pause, err := s.read(ctx)
		if err == nil {
			running, stop := context.WithCancel(context.WithoutCancel(ctx))
			s.stop = stop
			go s.run(running, pause)
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("read credentials: %w (last: %w)", context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

// Close ends the reading. The last credentials stay usable.
func (s *Source) Close() {
	s.stop()
	<-s.done
}

// Current returns the newest credentials that were read.
func (s *Source) Current() *Credentials { return s.current.Load() }

// Failing returns how many reads in a row did not succeed: 0 when all is well.
func (s *Source) Failing() int { return int(s.failing.Load()) }

// OnChange has f called when a new version has come into use. f must not block;
// its context ends with Close.
func (s *Source) OnChange(f func(ctx context.Context, c *Credentials)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = append(s.watchers, f)
}

// Refresh reads now, or as soon as MinInterval allows. Whoever calls it while
// that read has not begun waits for the same one, so that a flood of refused
// tokens does not become a flood of reads. It returns that read's error.
func (s *Source) Refresh(ctx context.Context) error {
	s.mu.Lock()
	if s.coming == nil {
		s.coming = &round{done: make(chan struct{})}
	}
	r := s.coming
	s.mu.Unlock()
	s.nudge()
	select {
	case <-r.done:
		return r.err
	case <-s.done:
		return fmt.Errorf("read credentials: the source is closed")
	case <-ctx.Done():
		return fmt.Errorf("read credentials: %w", context.Cause(ctx))
	}
}

// nudge asks for a read without waiting for it.
func (s *Source) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // one is asked for already
	}
}

// run reads when it is time to and when it is asked to, until ctx ends.
func (s *Source) run(ctx context.Context, pause time.Duration) {
	defer close(s.done)
	for {
		last := time.Now()
		if !s.sleep(ctx, pause) || !s.await(ctx, s.options.MinInterval-time.Since(last)) {
			return
		}
		pause, _ = s.read(ctx)
	}
}

// sleep waits for the pause to end, for ever if it is 0, or for a nudge. It
// reports false when ctx has ended.
func (s *Source) sleep(ctx context.Context, pause time.Duration) bool {
	var due <-chan time.Time
	if pause > 0 {
		due = time.After(pause)
	}
	select {
	case <-due:
	case <-s.wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

func (s *Source) await(ctx context.Context, pause time.Duration) bool {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// read reads once, tells those who wait, and returns when to read again.
func (s *Source) read(ctx context.Context) (time.Duration, error) {
	s.mu.Lock()
	r := s.coming
	s.coming = nil
	s.mu.Unlock()
	pause, err := s.readOnce(ctx)
	if r != nil {
		r.err = err
		close(r.done)
	}
	return pause, err
}

func (s *Source) readOnce(ctx context.Context) (time.Duration, error) {
	bounded, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	have, began := s.current.Load(), time.Now()
	fresh, err := s.reader.Read(bounded, have)
	if err != nil {
		return s.failed(ctx, err), err
	}
	s.failing.Store(0)
	s.current.Store(fresh)
	s.confirm(fresh, have, began)
	if have != nil && have.Version != fresh.Version {
		s.announce(ctx, fresh, have)
	}
	return fresh.TTL, nil
}

// confirm keeps fresh, of a read that began then, as confirmed if that is due.
func (s *Source) confirm(fresh, have *Credentials, began time.Time) {
	if have == nil || have.Version != fresh.Version {
		s.due = began.Add(fresh.TTL)
	}
	if have == nil || !began.Before(s.due) {
		s.confirmed.Store(fresh)
	}
}

// failed returns the pause after a read that did not succeed: twice as long each
// time, with jitter, so that many readers do not come back together.
func (s *Source) failed(ctx context.Context, err error) time.Duration {
	failures := s.failing.Add(1)
	pause := min(s.options.MinInterval<<min(failures, 8), maxBackoff)
	if s.current.Load() != nil {
		s.options.Logger.WarnContext(ctx, "read credentials: keeping the last ones", "error", err, "failures", failures)
	}
	return pause/2 + rand.N(pause/2+1) //nolint:gosec // not a secret
}

func (s *Source) announce(ctx context.Context, fresh, have *Credentials) {
	s.options.Logger.InfoContext(ctx, "new credentials", "version", fresh.Version, "before", have.Version)
	s.mu.Lock()
	watchers := s.watchers
	s.mu.Unlock()
	for _, f := range watchers {
		f(ctx, fresh)
	}
}
