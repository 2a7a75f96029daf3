package testenv

import (
	"context"

	"github.com/hashicorp/vault/api"
)

// RegisterPlugin is Vault's RegisterPlugin on all nodes: each gets the binary,
// also one that is down, and the catalog they share names it once.
func (c *Cluster) RegisterPlugin(ctx context.Context, binary, version string) error {
	return c.register(ctx, secretsPlugin(binary, version))
}

// RegisterPluginWithEnv is RegisterPlugin, in any version, with variables like
// NAME=value added to the plugin's environment.
func (c *Cluster) RegisterPluginWithEnv(ctx context.Context, binary string, env ...string) error {
	p := secretsPlugin(binary, "")
	p.env = env
	return c.register(ctx, p)
}

func (c *Cluster) register(ctx context.Context, p catalogPlugin) error {
	active, err := c.Active(ctx)
	if err != nil {
		return err
	}
	return registerPlugin(ctx, active, c.Nodes, p)
}

// RegisterDatabasePlugin is RegisterPlugin for a plugin of Vault's own database
// engine, under the given name.
func (c *Cluster) RegisterDatabasePlugin(ctx context.Context, name, binary string) error {
	return c.register(ctx, catalogPlugin{kind: api.PluginTypeDatabase, name: name, command: name, binary: binary})
}

// Enable is Vault's Enable on the active node.
func (c *Cluster) Enable(ctx context.Context, path, version string) error {
	active, err := c.Active(ctx)
	if err != nil {
		return err
	}
	return active.Enable(ctx, path, version)
}

// Snapshot is Vault's Snapshot of the active node.
func (c *Cluster) Snapshot(ctx context.Context) ([]byte, error) {
	active, err := c.Active(ctx)
	if err != nil {
		return nil, err
	}
	return active.Snapshot(ctx)
}

// Restore is Vault's Restore on the active node.
func (c *Cluster) Restore(ctx context.Context, snapshot []byte) error {
	active, err := c.Active(ctx)
	if err != nil {
		return err
	}
	return active.Restore(ctx, snapshot)
}
