package testenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
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
	return errors.Join(pg.endLocked(pg.stopLocked), pg.releaseMemory(), pg.scratch.remove())
}

// releaseMemory removes the shared memory of a server that was killed, which no other
// server would. Line 7 of postmaster.pid, which such a server leaves too, has its key
// and its id.
func (pg *Postgres) releaseMemory() error {
	left, err := os.ReadFile(pg.scratch.path("data", "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lines := strings.Split(string(left), "\n")
	if err != nil || len(lines) < 7 {
		return err // one that has not come so far has no such memory
	}
	if _, id, found := strings.Cut(strings.TrimSpace(lines[6]), " "); found {
		said, err := exec.Command("ipcrm", "-m", strings.TrimSpace(id)).CombinedOutput() //nolint:gosec,noctx // an id of ours; it does not wait
		if err != nil {
			return fmt.Errorf("remove the shared memory of a killed server: %w: %s", err, said)
		}
	}
	return nil
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
