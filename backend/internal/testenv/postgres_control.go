package testenv

import (
	"context"
	"errors"
	"syscall"
)

// Stop ends the server and removes everything it had. A second call does
// nothing. It is safe on a nil server.
func (pg *Postgres) Stop() error {
	if pg == nil {
		return nil
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return errors.Join(pg.endLocked(pg.stopLocked), pg.scratch.remove())
}

// Shutdown ends the server in order (PostgreSQL's "fast" mode) and keeps its
// data; Start brings it back.
func (pg *Postgres) Shutdown() error {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.endLocked(pg.stopLocked)
}

// Restart is Shutdown and Start.
func (pg *Postgres) Restart(ctx context.Context) error {
	if err := pg.Shutdown(); err != nil {
		return err
	}
	return pg.Start(ctx)
}

// Kill ends the server with SIGKILL, as a crash would, and keeps its data;
// Start brings it back. It returns when all processes of the server are gone.
func (pg *Postgres) Kill() error {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.endLocked(pg.process.kill)
}

// Stall stops all processes of the server where they are, so that it accepts
// connections and answers none, until Continue.
func (pg *Postgres) Stall() error {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.signalLocked(syscall.SIGSTOP)
}

// Continue ends a Stall.
func (pg *Postgres) Continue() error {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.signalLocked(syscall.SIGCONT)
}

func (pg *Postgres) stopLocked() error { return pg.process.stop(syscall.SIGINT) }

// endLocked lets a stalled server run again, ends it, and waits until the backends
// are gone too, which outlive the main process for a moment.
func (pg *Postgres) endLocked(stop func() error) error {
	if !pg.process.running() {
		return nil
	}
	backends := childrenOf(pg.process.pid())
	if err := errors.Join(pg.signalLocked(syscall.SIGCONT), stop()); err != nil {
		return err
	}
	return waitGone(backends)
}

// signalLocked signals the main process first: stopped, it starts no backends.
func (pg *Postgres) signalLocked(sig syscall.Signal) error {
	if !pg.process.running() {
		return errors.New("signal PostgreSQL: it is not running")
	}
	if err := pg.process.signal(sig); err != nil {
		return err
	}
	for _, pid := range childrenOf(pg.process.pid()) {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}
