package testenv

import (
	"errors"
	"fmt"
	"syscall"
)

// PID returns the server's process id; 0 when it does not run.
func (v *Vault) PID() int {
	p := v.process.Load()
	if !p.running() {
		return 0
	}
	return p.pid()
}

// Exited is closed when the server that runs now has ended, however it did; if
// none runs it is closed already.
func (v *Vault) Exited() <-chan struct{} {
	if p := v.process.Load(); p != nil {
		return p.done
	}
	closed := make(chan struct{})
	close(closed)
	return closed
}

// PluginPIDs returns the process ids of Vault's children: its plugins.
func (v *Vault) PluginPIDs() []int {
	pid := v.PID()
	if pid == 0 {
		return nil
	}
	return childrenOf(pid)
}

// KillPlugins ends every plugin process with SIGKILL, as a crash would, and
// returns when they are gone. Vault starts them again when it needs them.
func (v *Vault) KillPlugins() error {
	pids := v.PluginPIDs()
	if err := signalAll(pids, syscall.SIGKILL); err != nil {
		return err
	}
	return waitGone(pids)
}

// Kill ends the server and its plugins with SIGKILL, as the loss of the
// machine would, and keeps its data; Start brings it back.
func (v *Vault) Kill() error {
	plugins := v.PluginPIDs()
	err := errors.Join(v.KillServer(), signalAll(plugins, syscall.SIGKILL))
	return errors.Join(err, waitGone(plugins))
}

// KillServer ends the server alone with SIGKILL. Its plugins live on without
// storage, as after a crash of Vault; Stop ends them.
func (v *Vault) KillServer() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.process.Load().kill()
}

// Pause stops the server and its plugins where they are, as a hypervisor that
// moves the machine would, until Continue.
func (v *Vault) Pause() error {
	// The server first: stopped, it starts no plugins.
	if err := v.PauseServer(); err != nil {
		return err
	}
	return pause(v.PluginPIDs())
}

// Continue ends Pause, PauseServer and PausePlugins. It does nothing to a
// server that does not run.
func (v *Vault) Continue() error {
	return errors.Join(v.ContinuePlugins(), v.ContinueServer())
}

// PauseServer stops the server alone; its plugins go on without storage.
func (v *Vault) PauseServer() error {
	if v.PID() == 0 {
		return errors.New("pause Vault: it does not run")
	}
	return pause(v.serverPIDs())
}

// ContinueServer ends a PauseServer.
func (v *Vault) ContinueServer() error { return signalAll(v.serverPIDs(), syscall.SIGCONT) }

// PausePlugins stops the plugins alone: what the server asks of them hangs.
func (v *Vault) PausePlugins() error {
	pids := v.PluginPIDs()
	if len(pids) == 0 {
		return errors.New("pause plugins: none runs")
	}
	return pause(pids)
}

// ContinuePlugins ends a PausePlugins.
func (v *Vault) ContinuePlugins() error { return signalAll(v.PluginPIDs(), syscall.SIGCONT) }

func (v *Vault) serverPIDs() []int {
	if pid := v.PID(); pid != 0 {
		return []int{pid}
	}
	return nil
}

// pause returns when the processes have stopped, which is a moment after the
// signal was sent.
func pause(pids []int) error {
	if err := signalAll(pids, syscall.SIGSTOP); err != nil {
		return err
	}
	return waitUntil(pids, "stop", func(pid int) bool { return !alive(pid) || stopped(pid) })
}

// signalAll signals processes; it does nothing to those that have ended.
func signalAll(pids []int, sig syscall.Signal) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send %s to process %d: %w", sig, pid, err)
		}
	}
	return nil
}
