package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/vault/api"
)

// PluginName is the name under which RegisterPlugin puts the plugin into
// Vault's catalog, and the file name of its binary.
const PluginName = "vault-plugin-secrets-smvm"

// RegisterPlugin copies a plugin binary into the plugin directory and
// registers it in the catalog. Version, if not empty, must be the one that the
// plugin itself reports. Several versions can be registered side by side.
func (v *Vault) RegisterPlugin(ctx context.Context, binary, version string) error {
	content, err := os.ReadFile(binary) //nolint:gosec // the caller's
	if err != nil {
		return fmt.Errorf("read plugin: %w", err)
	}
	command := PluginName
	if version != "" {
		command += "_" + version
	}
	if err := v.installPlugin(command, content); err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	err = v.Client.Sys().RegisterPluginWithContext(ctx, &api.RegisterPluginInput{
		Name: PluginName, Type: api.PluginTypeSecrets, Command: command,
		SHA256: hex.EncodeToString(sum[:]), Version: version,
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
		os.WriteFile(target+".part", content, 0o700), //nolint:gosec // it is to be executed
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

// PluginPIDs returns the process ids of Vault's children: its plugins.
func (v *Vault) PluginPIDs() []int {
	if !v.process.running() {
		return nil
	}
	return childrenOf(v.process.pid())
}

// KillPlugins ends every plugin process with SIGKILL, as a crash would, and
// returns when they are gone. Vault starts them again when it needs them.
func (v *Vault) KillPlugins() error { return killAll(v.PluginPIDs()) }

// Kill ends the server and its plugins with SIGKILL, as the loss of the
// machine would, and keeps its data; Start brings it back.
func (v *Vault) Kill() error {
	plugins := v.PluginPIDs()
	return errors.Join(v.KillServer(), killAll(plugins))
}

// KillServer ends the server alone with SIGKILL. Its plugins live on without
// storage, as after a crash of Vault; Stop ends them.
func (v *Vault) KillServer() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.process.kill()
}

func killAll(pids []int) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	return waitGone(pids)
}
