package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// stopTimeout is how long a server gets for an orderly shutdown.
const stopTimeout = 30 * time.Second

// process is one run of a server, from its start to its exit.
type process struct {
	cmd     *exec.Cmd
	scratch *scratch
	done    chan struct{} // closed at exit; err is valid from then on
	err     error
}

// startProcess starts cmd in a session of its own, appending what it prints to
// the file at logPath.
func startProcess(s *scratch, cmd *exec.Cmd, logPath string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open server log: %w", err)
	}
	defer log.Close() //nolint:errcheck // the server has its own descriptor
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &process{cmd: cmd, scratch: s, done: make(chan struct{})}
	err = s.server(cmd.Process.Pid)
	go p.wait()
	return p, err
}

// wait collects the exit. The watcher hears of it only after the process id is
// free again, and before anybody who waits for done can start the next server.
func (p *process) wait() {
	p.err = p.cmd.Wait()
	p.err = errors.Join(p.err, p.scratch.server(0))
	close(p.done)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// running reports whether the process has not exited yet.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends sig, and does nothing if the process has exited.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to process %d: %w", sig, p.pid(), err)
	}
	return nil
}

// errStays says that a process did not end when it was told to.
var errStays = errors.New("it did not end")

// stop sends sig and waits for the exit; a process that has not left after
// stopTimeout is aborted, which is errStays. It does nothing if p has exited.
func (p *process) stop(sig syscall.Signal) error {
	if !p.running() {
		return nil
	}
	if err := p.signal(sig); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
	}
	err := fmt.Errorf("stop process %d: %w within %s after %s", p.pid(), errStays, stopTimeout, sig)
	return errors.Join(err, p.abort())
}

// abort ends the process with SIGQUIT, at which Vault prints the stacks of all its
// goroutines, or if that does not help with SIGKILL.
func (p *process) abort() error {
	if err := p.signal(syscall.SIGQUIT); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
	}
	return p.kill()
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill() error {
	if !p.running() {
		return nil
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// whileRunning returns a context that ends with the process too; its cause is
// then an error with the end of the process's log.
func (p *process) whileRunning(ctx context.Context, logPath string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-p.done:
			cancel(errors.Join(fmt.Errorf("%s exited; the end of its log:\n%s", p.cmd.Path, tail(logPath, 2000)), p.err))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// tail returns at most the last n bytes of a file, or why it can't be read.
func tail(path string, n int) string {
	text, err := os.ReadFile(path) //nolint:gosec // a log of ours
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-n):])
}
