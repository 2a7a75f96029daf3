package acceptance

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestOpenBaosNames has the scripts talk to a server by bao and BAO_ADDR, with a vault
// on PATH that refuses to be run. Here, bao is Vault's own client.
func TestOpenBaosNames(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	e.write("roles/default", map[string]any{"auto_rotate": false})
	e.write("secrets/default/api", map[string]any{"type": "api_key"})
	run := baoShell(e)
	for script, words := range map[string]string{
		"install/configure.sh -path bao -version v0.1.0 " + shared.plugin:                                           "bao/ runs",
		"apps/agent/enroll.sh -path " + e.path + " -name bao -dir $DIR/login default; ls $DIR/login":                "secret_id",
		"apps/agent/install.sh -dir $DIR/etc -units $DIR/units; cat $DIR/units/* $DIR/etc/*.env":                    "ExecStart=/usr/local/bin/bao agent",
		"apps/poll.sh " + e.path + "/creds/default $DIR/creds.json sh -c 'cat $DIR/creds.json; kill $PPID' || true": "api_key",
	} {
		if shown := run(script); !strings.Contains(shown, words) || strings.Contains(shown, "vault was run") {
			t.Errorf("%s does not say %q, but\n%s", script, words, shown)
		}
	}
}

// baoShell runs scripts in bootstrap/ with OpenBao's names alone.
func baoShell(e *engine) func(script string) string {
	e.Helper()
	root, err := testenv.Root()
	bin, dir := e.TempDir(), e.TempDir()
	if err := errors.Join(err,
		os.Symlink(e.vault.Binary, filepath.Join(bin, "bao")),
		testenv.WriteProgram(filepath.Join(bin, "vault"), []byte("#!/bin/sh\necho vault was run\nexit 1\n"), 0o755),
		os.WriteFile(filepath.Join(dir, "token"), []byte(e.vault.RootToken), 0o600)); err != nil {
		e.Fatal(err)
	}
	return func(script string) string {
		e.Helper()
		cmd := exec.CommandContext(e.Context(), "bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = filepath.Join(root, "bootstrap")
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "VAULT_ADDR=", "VAULT_TOKEN=",
			"BAO_ADDR="+e.vault.Address, "BAO_TOKEN="+e.vault.RootToken, "BAO_TOKEN_FILE="+dir+"/token", "DIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			e.Fatalf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}
}
