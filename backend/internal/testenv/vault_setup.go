package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// vaultConfig is the server's configuration: raft storage as in production, but for
// autopilot (see launch).
const vaultConfig = `
storage "raft" {
  path                   = "{dir}/raft"
  node_id                = "{id}"
  performance_multiplier = {multiplier}
}
listener "tcp" {
  address         = "127.0.0.1:{port}"
  cluster_address = "{listen}"
  tls_disable     = true
}
api_addr         = "http://127.0.0.1:{port}"
cluster_addr     = "https://{advertised}"
plugin_directory = "{dir}/plugins"
log_level        = "{level}"
disable_mlock    = true
`

// configure writes the configuration file and makes the directories it names.
func (v *Vault) configure(ctx context.Context, opts VaultOptions) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	listen, advertised, err := clusterAddresses(ctx, opts.front)
	if err != nil {
		return err
	}
	v.Address = fmt.Sprintf("http://127.0.0.1:%d", port)
	config := strings.NewReplacer("{dir}", v.scratch.dir, "{id}", v.ID, "{port}", fmt.Sprint(port),
		"{listen}", listen, "{advertised}", advertised, "{level}", opts.logLevel(), "{multiplier}", opts.multiplier()).Replace(vaultConfig)
	err = errors.Join(
		os.Mkdir(v.scratch.path("raft"), 0o700),
		os.Mkdir(v.PluginDir, 0o700),
		os.WriteFile(v.scratch.path("vault.hcl"), []byte(config+opts.Config), 0o600),
	)
	if err != nil {
		return fmt.Errorf("write Vault's configuration: %w", err)
	}
	return nil
}

func (opts VaultOptions) logLevel() string {
	if opts.Quiet {
		return "error"
	}
	return "trace"
}

// multiplier is raft's patience. With 1, which HashiCorp recommends for production,
// a follower that has not heard of the leader for one to two seconds calls an
// election, and a leader that has not heard of a majority for half a second gives
// up; all of that takes as many times as long. What nodes with a front say to each
// other goes through this process besides, twice: half a second is too little for
// that where 15 others want each processor, and then no leader lasts until it is
// active.
func (opts VaultOptions) multiplier() string {
	if opts.front != nil {
		return "3"
	}
	return "1"
}

// clusterAddresses returns where a node listens for its peers and where they
// are told to reach it.
func clusterAddresses(ctx context.Context, front func(context.Context, string) (string, error)) (listen, advertised string, err error) {
	port, err := freePort(ctx)
	if err != nil {
		return "", "", err
	}
	listen = fmt.Sprintf("127.0.0.1:%d", port)
	if front == nil {
		return listen, listen, nil
	}
	advertised, err = front(ctx, listen)
	return listen, advertised, err
}

// initialise initialises the server with one key share, and unseals it.
func (v *Vault) initialise(ctx context.Context) error {
	answer, err := v.Client.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		return fmt.Errorf("initialise: %w", err)
	}
	v.setKeys(answer.RootToken, answer.KeysB64[0])
	return v.Unseal(ctx)
}

func (v *Vault) setKeys(rootToken, unsealKey string) {
	v.RootToken, v.UnsealKey = rootToken, unsealKey
	v.Client.SetToken(rootToken)
	v.probe.SetToken(rootToken)
}

// Unseal unseals the server and waits until it is active. A node of a Cluster
// may be a standby instead, also one without a leader so far.
func (v *Vault) Unseal(ctx context.Context) error {
	if _, err := v.Client.Sys().UnsealWithContext(ctx, v.UnsealKey); err != nil {
		return fmt.Errorf("unseal Vault: %w", err)
	}
	return v.await(ctx, "Vault to be unsealed", func(ctx context.Context) error {
		health, err := v.probe.Sys().HealthWithContext(ctx)
		if err == nil && (health.Sealed || health.Standby && !v.member) {
			err = fmt.Errorf("sealed: %t, standby: %t", health.Sealed, health.Standby)
		}
		return err
	})
}

// Seal seals the server; Unseal undoes it. Vault refuses to seal a standby.
func (v *Vault) Seal(ctx context.Context) error {
	if err := v.Client.Sys().SealWithContext(ctx); err != nil {
		return fmt.Errorf("seal Vault: %w", err)
	}
	return nil
}

// sealTimeout is how long SealOrKill waits.
const sealTimeout = time.Minute

// SealOrKill is Seal for a node of a Cluster, which now and then never ends: a
// pipelineReplicate of raft 1.7.3 waits for ever to hand over a request if the answer
// to the one before has ended the goroutine that takes them, which is what a deposed
// leader gets from its peers. Such a node is killed, as an operator would have to: it
// has hung. Return brings it back.
func (v *Vault) SealOrKill(ctx context.Context) (hung bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, sealTimeout)
	defer cancel()
	err = v.Seal(ctx)
	if hung = errors.Is(err, context.DeadlineExceeded); hung {
		err = v.Kill()
	}
	return hung, err
}

// Return is Unseal after SealOrKill, and Start if that killed it.
func (v *Vault) Return(ctx context.Context) error {
	if v.PID() == 0 {
		return v.Start(ctx)
	}
	return v.Unseal(ctx)
}

// enableAudit enables a file audit device with default settings. Its path is
// relative to the server's directory: all nodes of a cluster have the same
// audit devices, but each its own file.
func (v *Vault) enableAudit(ctx context.Context) error {
	err := v.Client.Sys().EnableAuditWithOptionsWithContext(ctx, "file", &api.EnableAuditOptions{
		Type: "file", Options: map[string]string{"file_path": filepath.Base(v.AuditLogPath)},
	})
	if err != nil {
		return fmt.Errorf("enable audit device: %w", err)
	}
	return nil
}

// AuditLines returns the lines of the audit log, without the beginning of one that the
// server is writing just now.
func (v *Vault) AuditLines() ([][]byte, error) {
	log, err := os.ReadFile(v.AuditLogPath)
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return slices.Collect(bytes.Lines(log[:bytes.LastIndexByte(log, '\n')+1])), nil
}
