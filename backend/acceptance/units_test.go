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

// TestUnits has systemd check the shipped units, and rate their hardening.
func TestUnits(t *testing.T) {
	t.Parallel()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{T: t, vault: shared.vault, path: "smvm"}
	dir := t.TempDir()
	e.install(dir, "/usr/local/bin/vault", shared.vault.Binary, "/usr/local/lib/smvm-api", filepath.Join(root, "bootstrap/apps/agent"))
	units, err := filepath.Glob(filepath.Join(dir, "systemd", "*"))
	if err != nil || len(units) == 0 {
		t.Fatalf("there are no units: %v", err)
	}
	// What is the user's to say.
	for _, unit := range []string{"smvm-api@", "smvm-api-tests"} {
		dropIns := filepath.Join(dir, "systemd", unit+".service.d")
		if err := errors.Join(os.Mkdir(dropIns, 0o700), os.WriteFile(filepath.Join(dropIns, "command.conf"), []byte("[Service]\nExecStart=/bin/true\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for i, unit := range units {
		if instance := strings.Replace(unit, "@.", "@8001.", 1); instance != unit {
			if err := os.Rename(unit, instance); err != nil {
				t.Fatal(err)
			}
			units[i] = instance
		}
	}
	analyze(t, append([]string{"verify", "--man=no"}, units...)...)
	for _, unit := range units {
		if !strings.HasSuffix(unit, ".path") && !strings.HasSuffix(unit, "smvm-api-changed.service") {
			analyze(t, "security", "--offline=true", "--no-pager", "--threshold=20", unit)
		}
	}
}

func analyze(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput()
	if err != nil || args[0] == "verify" && len(out) > 0 {
		t.Errorf("systemd-analyze %v: %v\n%s", args, err, out[max(0, len(out)-2000):])
	}
}
