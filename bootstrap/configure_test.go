package bootstrap

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigureNoPlugin gives configure.sh programs that Vault could not start, as which
// it would set the mount to a version that never runs.
func TestConfigureNoPlugin(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("\x7fELF"), 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	for _, binary := range []string{"/bin/true", broken} {
		out, err := exec.CommandContext(t.Context(), "install/configure.sh", "-copy-only", "-version", "v0.1.0", "-plugin-dir", dir, binary).CombinedOutput()
		if err == nil || !strings.Contains(string(out), binary+" is no plugin of Vault") {
			t.Errorf("%s: %v: %s", binary, err, out)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "vault-plugin-*")); err != nil || len(left) > 0 {
		t.Errorf("it has copied %v: %v", left, err)
	}
}
