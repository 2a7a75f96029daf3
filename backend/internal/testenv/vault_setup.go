package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"
)

// vaultConfig is the server's configuration: raft storage as in production.
// The multiplier makes the one node elect itself in one second, not in five.
const vaultConfig = `
storage "raft" {
  path                   = "{dir}/raft"
  node_id                = "smvm-1"
  performance_multiplier = 1
}
listener "tcp" {
  address         = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_disable     = true
}
api_addr         = "http://127.0.0.1:{port}"
cluster_addr     = "https://127.0.0.1:{cluster_port}"
plugin_directory = "{dir}/plugins"
log_level        = "trace"
disable_mlock    = true
`

// configure writes the configuration file and makes the directories it names.
func (v *Vault) configure(ctx context.Context, extra string) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	clusterPort, err := freePort(ctx)
	if err != nil {
		return err
	}
	v.Address = fmt.Sprintf("http://127.0.0.1:%d", port)
	config := strings.NewReplacer("{dir}", v.scratch.dir, "{port}", fmt.Sprint(port),
		"{cluster_port}", fmt.Sprint(clusterPort)).Replace(vaultConfig)
	err = errors.Join(
		os.Mkdir(v.scratch.path("raft"), 0o700),
		os.Mkdir(v.PluginDir, 0o700),
		os.WriteFile(v.scratch.path("vault.hcl"), []byte(config+extra), 0o600),
	)
	if err != nil {
		return fmt.Errorf("write Vault's configuration: %w", err)
	}
	return nil
}

// initialise initialises the server with one key share, and unseals it.
func (v *Vault) initialise(ctx context.Context) error {
	answer, err := v.Client.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		return fmt.Errorf("initialise: %w", err)
	}
	v.RootToken, v.UnsealKey = answer.RootToken, answer.KeysB64[0]
	v.Client.SetToken(v.RootToken)
	return v.Unseal(ctx)
}

// Unseal unseals the server and waits until it is active.
func (v *Vault) Unseal(ctx context.Context) error {
	if _, err := v.Client.Sys().UnsealWithContext(ctx, v.UnsealKey); err != nil {
		return fmt.Errorf("unseal Vault: %w", err)
	}
	return v.await(ctx, "Vault to become active", func(ctx context.Context) error {
		health, err := v.Client.Sys().HealthWithContext(ctx)
		if err == nil && (health.Sealed || health.Standby) {
			err = fmt.Errorf("sealed: %t, standby: %t", health.Sealed, health.Standby)
		}
		return err
	})
}

// Seal seals the server; Unseal undoes it.
func (v *Vault) Seal(ctx context.Context) error {
	if err := v.Client.Sys().SealWithContext(ctx); err != nil {
		return fmt.Errorf("seal Vault: %w", err)
	}
	return nil
}

// enableAudit enables a file audit device with default settings.
func (v *Vault) enableAudit(ctx context.Context) error {
	err := v.Client.Sys().EnableAuditWithOptionsWithContext(ctx, "file", &api.EnableAuditOptions{
		Type: "file", Options: map[string]string{"file_path": v.AuditLogPath},
	})
	if err != nil {
		return fmt.Errorf("enable audit device: %w", err)
	}
	return nil
}
