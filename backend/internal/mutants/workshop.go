package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// workshop is a copy of the module, which nobody edits meanwhile.
type workshop struct {
	scratch string // holds dir and what is built
	dir     string
}

func newWorkshop(root string) (*workshop, error) {
	scratch, err := os.MkdirTemp("", "smvm-mutants-")
	if err != nil {
		return nil, fmt.Errorf("copy module: %w", err)
	}
	w := &workshop{scratch: scratch, dir: filepath.Join(scratch, "module")}
	if err := copyModule(root, w.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("copy module: %w", err), w.remove())
	}
	return w, nil
}

func (w *workshop) remove() error { return os.RemoveAll(w.scratch) }

// copyModule copies all but what git and make put there.
func copyModule(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case relative == ".git" || relative == "bin":
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil // the .git of a worktree
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		return copyFile(path, target)
	})
}

// copyFile copies a file with its permissions: scripts are executable.
func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, info.Mode().Perm()) //nolint:gosec // within the copy
}

// build makes the test binary of a package of the module, with the changed files
// in place of those there are, in a new directory.
func (w *workshop) build(ctx context.Context, pkg string, changed map[string]string) (binary string, err error) {
	dir, err := os.MkdirTemp(w.scratch, "mutant-")
	if err != nil {
		return "", err
	}
	overlay, err := writeOverlay(dir, w.dir, changed)
	if err != nil {
		return "", err
	}
	binary = filepath.Join(dir, "test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-overlay", overlay, "-o", binary, "./"+pkg)
	cmd.Dir = w.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return binary, nil
}

// writeOverlay writes the changed files, and what tells go to read them instead.
func writeOverlay(dir, module string, changed map[string]string) (string, error) {
	replace := map[string]string{}
	for file, text := range changed {
		instead := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(instead, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(module, filepath.FromSlash(file))] = instead
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, data, 0o600)
}

// test runs a test binary in the directory of its package. A test that hangs is
// ended after timeout, with a panic that names it.
func (w *workshop) test(ctx context.Context, binary, pkg string, flags []string, timeout time.Duration) (string, error) {
	args := []string{"-test.failfast", "-test.timeout=" + timeout.String()}
	for _, flag := range flags {
		if name, ok := strings.CutPrefix(flag, "-"); ok {
			flag = "-test." + name
		}
		args = append(args, flag)
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = filepath.Join(w.dir, filepath.FromSlash(pkg))
	cmd.WaitDelay = 10 * time.Second // for what a dead test leaves behind
	out, err := cmd.CombinedOutput()
	return string(out), err
}
