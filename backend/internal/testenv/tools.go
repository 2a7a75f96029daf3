package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Root returns the top directory of this repository: the nearest one at or
// above the working directory that has go.mod and scripts/get-vault.sh.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find repository: %w", err)
	}
	for {
		_, noModule := os.Stat(filepath.Join(dir, "go.mod"))
		_, noScript := os.Stat(filepath.Join(dir, "scripts", "get-vault.sh"))
		if noModule == nil && noScript == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find repository: the working directory is outside of it")
		}
		dir = filepath.Dir(dir)
	}
}

// VaultBinary returns the path of a vault binary, see scripts/get-vault.sh.
// The first call on a machine can take ten minutes.
func VaultBinary(ctx context.Context) (string, error) {
	return script(ctx, "get-vault.sh")
}

// PostgresBin returns the directory of a PostgreSQL server's binaries, see
// scripts/get-postgres.sh. Major is 14 to 18, or 0 for any.
func PostgresBin(ctx context.Context, major int) (string, error) {
	if major == 0 {
		return script(ctx, "get-postgres.sh")
	}
	return script(ctx, "get-postgres.sh", fmt.Sprint(major))
}

// NodeModules returns the directory in which the Node libraries lie that tests
// use, see scripts/get-node.sh.
func NodeModules(ctx context.Context) (string, error) {
	return script(ctx, "get-node.sh")
}

// Reader returns the path of a program that reads our values as others do, see
// scripts/get-reader.sh.
func Reader(ctx context.Context, name string) (string, error) {
	return script(ctx, "get-reader.sh", name)
}

// SystemdRoot makes a root file system in dir in which systemd boots in a
// container, see scripts/systemd-root.sh.
func SystemdRoot(ctx context.Context, dir string) error {
	_, err := script(ctx, "systemd-root.sh", dir)
	return err
}

// script runs one of the repository's scripts and returns the line it prints.
// What it has to say to a person goes to the terminal and, for a test that
// hides it, into the error.
func script(ctx context.Context, name string, args ...string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	var said strings.Builder
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts", name), args...) //nolint:gosec // our own scripts
	cmd.Stderr = io.MultiWriter(os.Stderr, &said)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run scripts/%s: %w: %s", name, err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// PgBouncer returns the path of a pgbouncer, see scripts/get-pgbouncer.sh.
func PgBouncer(ctx context.Context) (string, error) { return script(ctx, "get-pgbouncer.sh") }

// Python returns the path of a Python that runs bootstrap/apps/python, see
// scripts/get-python.sh.
func Python(ctx context.Context) (string, error) { return script(ctx, "get-python.sh") }

// VaultPostgreSQL returns the path of Vault's own PostgreSQL plugin, see
// scripts/get-vault-postgresql.sh.
func VaultPostgreSQL(ctx context.Context) (string, error) {
	return script(ctx, "get-vault-postgresql.sh")
}

// Tool returns the path of a program, built from a package in the version that a
// module in scripts/tools names, see scripts/get-tool.sh.
func Tool(ctx context.Context, module, name string) (string, error) {
	return script(ctx, "get-tool.sh", module, name)
}

// CRDs returns the directories with the CRDs of the operators for Kubernetes, see
// scripts/get-crds.sh.
func CRDs(ctx context.Context) ([]string, error) {
	printed, err := script(ctx, "get-crds.sh")
	return strings.Fields(printed), err
}
