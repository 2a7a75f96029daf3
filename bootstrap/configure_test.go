package bootstrap

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestConfigureNoPlugin gives configure.sh programs that Vault could not start, as which
// it would set the mount to a version that never runs. It runs none of them: what it runs
// has the token of whoever runs it.
func TestConfigureNoPlugin(t *testing.T) {
	dir := t.TempDir()
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	plugin := slices.Concat(program, []byte("This binary is a plugin. These are not meant to be executed directly.\n"))
	foreign := bytes.Clone(plugin)
	foreign[18] ^= 0xff // the processor, in the header
	ran := filepath.Join(dir, "ran")
	configure := func(name string, text []byte) (string, error) {
		binary := filepath.Join(dir, name)
		if err := os.WriteFile(binary, text, 0o700); err != nil { //nolint:gosec // it may be run
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "install/configure.sh", "-copy-only", "-version", "v0.1.0", "-plugin-dir", dir, binary).CombinedOutput()
		return string(out), err
	}
	for name, text := range map[string][]byte{
		"a-program": program,
		"broken":    []byte("\x7fELF This binary is a plugin"),
		"foreign":   foreign,
		"a-script":  []byte("#!/bin/sh\n>" + ran + "\necho This binary is a plugin\n"),
	} {
		if out, err := configure(name, text); err == nil || !strings.Contains(out, name+" is no plugin of Vault, or not for this machine") {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "vault-plugin-*")); err != nil || len(left) > 0 {
		t.Errorf("it has copied %v: %v", left, err)
	}
	if _, err := os.Stat(ran); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it has run what it was given: %v", err)
	}
	if out, err := configure("a-plugin", plugin); err != nil {
		t.Errorf("a plugin: %v: %s", err, out)
	}
}
