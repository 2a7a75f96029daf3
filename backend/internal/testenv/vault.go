package testenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"
)

// probeTimeout bounds one question to a server whether it is up.
const probeTimeout = 500 * time.Millisecond

// noRaceSleep keeps a plugin built with the race detector from waiting a second
// before it exits, for which seal and step-down would have to wait too.
const noRaceSleep = "GORACE=atexit_sleep_ms=0"

// VaultOptions says what StartVault starts. The zero value is what most tests
// want.
type VaultOptions struct {
	// Binary is the vault to run; empty means VaultBinary's.
	Binary string
	// Config is HCL to add to the server's configuration file.
	Config string
	// Quiet logs errors only, and leaves out the audit device: for measurements.
	Quiet bool

	// id is the node's; empty means smvm-1.
	id string
	// front returns the address at which the node's peers are to reach it,
	// given the one at which it listens for them; nil means the same.
	front func(ctx context.Context, listen string) (string, error)
}

// Vault is a running Vault server, initialised, unsealed, with a file audit
// device: one of its own, which is active, or a node of a Cluster.
type Vault struct {
	// ID is the node's name in raft, such as smvm-1.
	ID string
	// Address is the URL of its API. It stays the same over restarts.
	Address string
	// Binary is the vault program, server and CLI.
	Binary string
	// RootToken and UnsealKey (the only share) are what initialisation gave.
	RootToken, UnsealKey string
	// Client talks to it with the root token.
	Client *api.Client
	// LogPath is the server's log at level trace, plugins included.
	LogPath string
	// AuditLogPath is the audit device's log: one JSON object per line, with
	// secrets as HMACs.
	AuditLogPath string
	// PluginDir is the server's plugin directory.
	PluginDir string

	scratch *scratch
	probe   *api.Client // as Client, but it does not wait or retry
	member  bool        // of a Cluster: unsealed, it may be a standby

	mu      sync.Mutex              // held while the server is started or stopped
	process atomic.Pointer[process] // of the last start
}

// StartVault starts a new Vault and returns when it is active. Where it has to
// be built first that takes some ten minutes. ctx bounds the start only; the
// server runs until Stop or until this process dies.
func StartVault(ctx context.Context, opts VaultOptions) (*Vault, error) {
	v, err := newVault(ctx, opts)
	if err == nil {
		err = v.launch(ctx)
	}
	if err == nil {
		err = v.initialise(ctx)
	}
	if err == nil && !opts.Quiet {
		err = v.enableAudit(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start Vault: %w", err), v.Stop())
	}
	return v, nil
}

// newVault prepares a server's files. What it returns needs a Stop also when
// there is an error.
func newVault(ctx context.Context, opts VaultOptions) (*Vault, error) {
	binary := opts.Binary
	if binary == "" {
		var err error
		if binary, err = VaultBinary(ctx); err != nil {
			return nil, err
		}
	}
	s, err := newScratch(ctx, "vault")
	if err != nil {
		return nil, err
	}
	v := &Vault{
		ID: cmp.Or(opts.id, "smvm-1"), Binary: binary, scratch: s,
		LogPath: s.path("vault.log"), AuditLogPath: s.path("audit.log"), PluginDir: s.path("plugins"),
	}
	if err := v.configure(ctx, opts); err != nil {
		return v, err
	}
	if v.probe, err = newClient(v.Address); err != nil {
		return v, err
	}
	v.probe.SetMaxRetries(0)
	v.probe.SetClientTimeout(probeTimeout)
	v.Client, err = newClient(v.Address)
	return v, err
}

// newClient makes an API client that ignores the environment's Vault settings:
// they are of another server.
func newClient(address string) (*api.Client, error) {
	config := api.DefaultConfig()
	config.Address = address
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("make Vault client: %w", err)
	}
	client.ClearToken()
	client.ClearNamespace()
	return client, nil
}

// launch starts the server process and waits until its API answers; it is then
// still sealed.
//
// It has no autopilot, so nodes that join are voters at once. Vault 1.21 can lock
// itself up with it: to give up being active, StopAutopilot waits for the end of
// autopilot's goroutine and holds the lock that this may just then wait for
// (physical/raft/raft_autopilot.go, KnownServers). Such a node answers nothing more.
func (v *Vault) launch(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.process.Load().running() {
		return errors.New("start Vault: it is running")
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), v.Binary, "server", "-config", v.scratch.path("vault.hcl")) //nolint:gosec // from our own scripts
	cmd.Dir = v.scratch.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "TZ=UTC", "HOME=" + v.scratch.dir, "TMPDIR=" + os.TempDir(), noRaceSleep, "VAULT_RAFT_AUTOPILOT_DISABLE=true"}
	p, err := startProcess(v.scratch, cmd, v.LogPath)
	if err != nil {
		return err
	}
	v.process.Store(p)
	return v.await(ctx, "Vault's API", func(ctx context.Context) error {
		_, err := v.probe.Sys().HealthWithContext(ctx)
		return err
	})
}

// await is Eventually for startTimeout at most, cut short by the server's exit.
func (v *Vault) await(ctx context.Context, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ctx, release := v.process.Load().whileRunning(ctx, v.LogPath)
	defer release()
	return Eventually(ctx, what, check)
}

// Stop ends the server and its plugins and removes everything they had. A
// second call does nothing. It is safe on a nil server.
func (v *Vault) Stop() error {
	if v == nil {
		return nil
	}
	return errors.Join(v.Shutdown(), v.scratch.remove())
}

// Shutdown ends the server in order and keeps its data; Start brings it back. A node
// whose raft hangs, as SealOrKill says, is aborted, and counts as ended: that comes after
// its plugins have.
func (v *Vault) Shutdown() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := len(tail(v.LogPath, 1<<30))
	// A server that is stopped, or that waits for a stopped plugin, never ends.
	err := errors.Join(v.Continue(), v.process.Load().stop(syscall.SIGTERM))
	if errors.Is(err, errStays) && strings.Contains(tail(v.LogPath, 1<<30)[known:], "raft.(*raftState).waitShutdown(") {
		return nil
	}
	return err
}

// Start starts the server again after Shutdown or Kill, unseals it and waits
// as Unseal does.
func (v *Vault) Start(ctx context.Context) error {
	if err := v.launch(ctx); err != nil {
		return err
	}
	return v.Unseal(ctx)
}

// Restart is Shutdown and Start.
func (v *Vault) Restart(ctx context.Context) error {
	if err := v.Shutdown(); err != nil {
		return err
	}
	return v.Start(ctx)
}
