package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/vault/api"
)

// PluginName is the name under which RegisterPlugin puts the plugin into
// Vault's catalog, and the file name of its binary.
const PluginName = "vault-plugin-secrets-smvm"

// RegisterPlugin copies a plugin binary into the plugin directory and
// registers it in the catalog. Version, if not empty, must be the one that the
// plugin itself reports. Several versions can be registered side by side.
func (v *Vault) RegisterPlugin(ctx context.Context, binary, version string) error {
	return registerPlugin(ctx, v, []*Vault{v}, secretsPlugin(binary, version))
}

// RegisterPluginWithEnv is RegisterPlugin for a plugin that is started with more in its
// environment.
func (v *Vault) RegisterPluginWithEnv(ctx context.Context, binary string, env ...string) error {
	p := secretsPlugin(binary, "")
	p.env = env
	return registerPlugin(ctx, v, []*Vault{v}, p)
}

// catalogPlugin is a plugin for the catalog: as what and under which name, and
// the file with it.
type catalogPlugin struct {
	kind                           api.PluginType
	name, command, binary, version string
	// env is what Vault adds to the plugin's environment.
	env []string
}

func secretsPlugin(binary, version string) catalogPlugin {
	p := catalogPlugin{kind: api.PluginTypeSecrets, name: PluginName, command: PluginName, binary: binary, version: version}
	if version != "" {
		p.command += "_" + version
	}
	return p
}

// registerPlugin installs a plugin binary on the nodes and registers it in the
// catalog, which they share, through active.
func registerPlugin(ctx context.Context, active *Vault, nodes []*Vault, p catalogPlugin) error {
	content, err := os.ReadFile(p.binary)
	if err != nil {
		return fmt.Errorf("read plugin: %w", err)
	}
	for _, node := range nodes {
		if err := node.installPlugin(p.command, content); err != nil {
			return err
		}
	}
	sum := sha256.Sum256(content)
	err = active.Client.Sys().RegisterPluginWithContext(ctx, &api.RegisterPluginInput{
		Name: p.name, Type: p.kind, Command: p.command,
		SHA256: hex.EncodeToString(sum[:]), Version: p.version, Env: p.env,
	})
	if err != nil {
		return fmt.Errorf("register plugin: %w", err)
	}
	return nil
}

// installPlugin puts a binary into the plugin directory; by a rename, because
// one that runs can't be overwritten.
func (v *Vault) installPlugin(command string, content []byte) error {
	target := filepath.Join(v.PluginDir, command)
	err := errors.Join(
		WriteProgram(target+".part", content, 0o700),
		os.Rename(target+".part", target),
	)
	if err != nil {
		return fmt.Errorf("install plugin: %w", err)
	}
	return nil
}

// Enable mounts the registered plugin at path, such as "smvm", in the given
// version; empty means the one Vault picks: the newest.
func (v *Vault) Enable(ctx context.Context, path, version string) error {
	err := v.Client.Sys().MountWithContext(ctx, path, &api.MountInput{
		Type: PluginName, Config: api.MountConfigInput{PluginVersion: version},
	})
	if err != nil {
		return fmt.Errorf("enable plugin at %s: %w", path, err)
	}
	return nil
}

// RegisterFile registers a secrets plugin under the name of a file that lies in
// the plugin directory already.
func (v *Vault) RegisterFile(ctx context.Context, name string) error {
	return registerPlugin(ctx, v, nil, catalogPlugin{
		kind: api.PluginTypeSecrets, name: name, command: name, binary: filepath.Join(v.PluginDir, name),
	})
}

// RegisterAuthPlugin registers an auth method of Vault's own that this Vault was built
// without, under its name.
func (v *Vault) RegisterAuthPlugin(ctx context.Context, name, binary string) error {
	return registerPlugin(ctx, v, []*Vault{v}, catalogPlugin{kind: api.PluginTypeCredential, name: name, command: name, binary: binary})
}
