package testenv

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVaultKeepsData(t *testing.T) {
	t.Parallel()
	v := NewVault(t, VaultOptions{})
	ctx := t.Context()
	const path, secret = "cubbyhole/kept", "a-value-to-look-for"
	_, err := v.Client.Logical().WriteWithContext(ctx, path, map[string]any{"key": secret})
	must(t, err)

	for _, step := range []struct {
		name string
		act  []func(context.Context) error
	}{
		{"restart", []func(context.Context) error{v.Restart}},
		{"seal and unseal", []func(context.Context) error{v.Seal, v.Unseal}},
		{"kill and start", []func(context.Context) error{func(context.Context) error { return v.Kill() }, v.Start}},
	} {
		for _, act := range step.act {
			must(t, act(ctx))
		}
		kept, err := v.Client.Logical().ReadWithContext(ctx, path)
		if err != nil || kept == nil || kept.Data["key"] != secret {
			t.Errorf("after %s: %v (%v), want the value", step.name, kept, err)
		}
	}
	audit, err := os.ReadFile(v.AuditLogPath)
	must(t, err)
	if !bytes.Contains(audit, []byte(path)) || bytes.Contains(audit, []byte(secret)) {
		t.Error("the audit log lacks the request, or has the value in clear")
	}
	if log := tail(v.LogPath, 1<<20); !strings.Contains(log, "[TRACE]") {
		t.Error("the server's log is not at level trace")
	}
}

// TestAuditLinesAreWhole reads an audit log while a line is being written.
func TestAuditLinesAreWhole(t *testing.T) {
	t.Parallel()
	v := &Vault{AuditLogPath: filepath.Join(t.TempDir(), "audit.log")}
	for text, whole := range map[string]int{"": 0, "{\"type\":": 0, "{}\n": 1, "{}\n{}\n{\"type\":": 2} {
		must(t, os.WriteFile(v.AuditLogPath, []byte(text), 0o600))
		lines, err := v.AuditLines()
		must(t, err)
		for _, line := range lines {
			if string(line) != "{}\n" {
				t.Errorf("%q has the line %q", text, line)
			}
		}
		if len(lines) != whole {
			t.Errorf("%q has %d lines", text, len(lines))
		}
	}
}

func TestVaultStopLeavesNothing(t *testing.T) {
	t.Parallel()
	v, err := StartVault(t.Context(), VaultOptions{})
	must(t, err)
	pids := []int{v.PID(), v.scratch.watcher.Process.Pid}
	must(t, v.Stop())
	must(t, v.Stop())
	checkGone(t, pids, v.scratch.dir)
}

func TestVaultStartError(t *testing.T) {
	t.Parallel()
	_, err := StartVault(t.Context(), VaultOptions{Config: `seal "nonsense" {}`})
	if err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("got %v, want the log's words about the bad seal", err)
	}
}

func TestPluginLifeCycle(t *testing.T) {
	t.Parallel()
	v := NewVault(t, VaultOptions{})
	ctx := t.Context()
	binary := NewPlugin(t)
	must(t, v.RegisterPlugin(ctx, binary, ""))
	must(t, v.RegisterPlugin(ctx, binary, "")) // over a binary that may run
	must(t, v.Enable(ctx, "smvm", ""))
	before := pluginPID(t, v)

	must(t, v.KillPlugins())
	if after := pluginPID(t, v); after == before {
		t.Errorf("the plugin is still process %d", before)
	}
	must(t, v.Restart(ctx))
	orphan := pluginPID(t, v)
	must(t, v.KillServer())
	if !alive(orphan) {
		t.Fatal("the plugin went with its server")
	}
	must(t, v.Stop())
	checkGone(t, []int{orphan}, v.scratch.dir)
}

func TestFindRace(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "vault.log")
	must(t, os.WriteFile(log, []byte("[DEBUG] smvm: ==================\n[DEBUG] smvm: WARNING: DATA RACE\n"), 0o600))
	if got := findRace(log); got != "WARNING: DATA RACE\n" {
		t.Errorf("found %q", got)
	}
	must(t, os.WriteFile(log, []byte("[DEBUG] smvm: none\n"), 0o600))
	if got := findRace(log); got != "" {
		t.Errorf("found %q", got)
	}
}

// pluginPID makes Vault call the plugin, and returns its process id.
func pluginPID(t *testing.T, v *Vault) int {
	t.Helper()
	var pids []int
	must(t, Eventually(t.Context(), "the plugin", func(ctx context.Context) error {
		if _, err := v.Client.HelpWithContext(ctx, "smvm"); err != nil {
			return err
		}
		if pids = v.PluginPIDs(); len(pids) != 1 {
			return fmt.Errorf("Vault has %d children", len(pids))
		}
		return nil
	}))
	return pids[0]
}
