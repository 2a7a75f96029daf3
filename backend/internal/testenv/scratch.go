package testenv

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

//go:embed watch.sh
var watchScript string

// scratch is a directory that does not outlive this process, and neither does
// any server started in it. A small watcher sees to both: it reads a pipe that
// ends when this process closes it or dies, then ends the servers and removes
// the directory. A parent-death signal would not do: the kernel sends it when
// the starting thread ends, and Vault's plugins would not get it.
type scratch struct {
	dir     string
	watcher *exec.Cmd
	pipe    io.WriteCloser
}

// newScratch makes a scratch directory whose name starts with "smvm-" and the
// given name. Other users may pass through it but not list it.
func newScratch(ctx context.Context, name string) (*scratch, error) {
	dir, err := os.MkdirTemp("", "smvm-"+name+"-")
	if err != nil {
		return nil, fmt.Errorf("make scratch directory: %w", err)
	}
	s := &scratch{}
	if s.dir, err = filepath.EvalSymlinks(dir); err == nil {
		err = s.watch(ctx)
	}
	if err == nil {
		err = os.Chmod(s.dir, 0o711)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare %s: %w", dir, err), os.RemoveAll(dir))
	}
	return s, nil
}

// watch starts the watcher, in a session of its own so that an interrupt at
// the terminal does not reach it.
func (s *scratch) watch(ctx context.Context) error {
	s.watcher = exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", watchScript, "watch", s.dir)
	s.watcher.Dir = "/"
	s.watcher.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var err error
	if s.pipe, err = s.watcher.StdinPipe(); err != nil {
		return fmt.Errorf("open watcher's pipe: %w", err)
	}
	if err := s.watcher.Start(); err != nil {
		return fmt.Errorf("start watcher: %w", err)
	}
	return nil
}

// server tells the watcher the process id of the server that now runs in the
// directory; 0 when none does.
func (s *scratch) server(pid int) error {
	if _, err := fmt.Fprintln(s.pipe, pid); err != nil {
		return fmt.Errorf("tell watcher of process %d: %w", pid, err)
	}
	return nil
}

// path joins the elements to the scratch directory.
func (s *scratch) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// remove ends what still runs in the directory and removes it. It returns when
// both are done. A second call does nothing.
func (s *scratch) remove() error {
	if s == nil || s.pipe == nil {
		return nil
	}
	err := errors.Join(s.pipe.Close(), s.watcher.Wait())
	s.pipe = nil
	if err != nil {
		return fmt.Errorf("remove %s: %w", s.dir, err)
	}
	return nil
}
