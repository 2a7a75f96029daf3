package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Program is any other program that runs beside the servers: an application, a
// Vault Agent. It does not outlive this process.
type Program struct {
	// Dir is its working directory, and goes with it.
	Dir string
	// LogPath is the file with all that it prints.
	LogPath string

	scratch *scratch
	process *process
}

// StartProgram starts a program with this environment and nothing else but PATH
// and HOME. ctx bounds nothing; the program runs until Stop or until this
// process dies.
func StartProgram(ctx context.Context, env []string, name string, args ...string) (*Program, error) {
	s, err := newScratch(ctx, "program")
	if err != nil {
		return nil, err
	}
	p := &Program{Dir: s.dir, LogPath: s.path("program.log"), scratch: s}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), name, args...) //nolint:gosec // the caller's
	cmd.Dir = s.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}, env...)
	if p.process, err = startProcess(s, cmd, p.LogPath); err != nil {
		return nil, errors.Join(fmt.Errorf("start program: %w", err), s.remove())
	}
	return p, nil
}

// NewProgram is StartProgram for a test: it fails the test if that fails, and
// stops the program when the test and its subtests are done.
func NewProgram(t testing.TB, env []string, name string, args ...string) *Program {
	t.Helper()
	p, err := StartProgram(t.Context(), env, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, p.Stop, p.LogPath)
	return p
}

// LogTail returns the end of what it has printed.
func (p *Program) LogTail() string { return tail(p.LogPath, 2000) }

// Signal sends a signal, and does nothing if the program has ended.
func (p *Program) Signal(sig syscall.Signal) error { return p.process.signal(sig) }

// Shutdown ends the program by SIGTERM and waits until it has.
func (p *Program) Shutdown() error { return p.process.stop(syscall.SIGTERM) }

// Stop is Shutdown, and removes what it had. A second call does nothing. It is
// safe on a nil program.
func (p *Program) Stop() error {
	if p == nil {
		return nil
	}
	return errors.Join(p.Shutdown(), p.scratch.remove())
}
