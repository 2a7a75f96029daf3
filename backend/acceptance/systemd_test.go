package acceptance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// machine is a container with a systemd, and a file system of its own. Nothing in
// it sees the machine that the tests run on.
type machine struct {
	*testing.T
	name, root string
}

var machines atomic.Int64

// boot starts one with these files and no network. What is in /run and /tmp, only run
// can reach.
func boot(t *testing.T, files map[string]string) *machine {
	t.Helper()
	return bootWith(t, files, "--network", "none")
}

// bootWith is boot with options of podman.
func bootWith(t *testing.T, files map[string]string, options ...string) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("only root can run a systemd in a container; run as root: scripts/test.sh ./backend/acceptance/")
	}
	root := t.TempDir()
	if err := testenv.SystemdRoot(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	m := &machine{T: t, name: fmt.Sprintf("smvm-test-%d-%d", os.Getpid(), machines.Add(1)), root: root}
	for name, text := range files {
		m.put(name, text)
	}
	t.Cleanup(func() {
		if out, err := podman(context.Background(), "rm", "--force", "--ignore", "--time", "0", m.name).CombinedOutput(); err != nil {
			t.Errorf("remove the container: %v: %s", err, out)
		}
	})
	// It ends by itself, should this process not come to remove it.
	args := []string{"run", "--detach", "--name", m.name, "--timeout", "600", "--systemd", "always", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"}
	args = append(append(args, options...), "--rootfs", root, "/lib/systemd/systemd", "--unit=multi-user.target")
	out, err := podman(t.Context(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("start the container: %v: %s", err, out)
	}
	m.eventually("systemd", func() error {
		if state := m.run("systemctl is-system-running || true"); state != "running" {
			return errors.New(state)
		}
		return nil
	})
	return m
}

func podman(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "podman", append([]string{"--runtime", "runc", "--cgroup-manager", "cgroupfs", "--log-level", "error"}, args...)...)
}

// run has a shell in the machine run that, and returns what it prints.
func (m *machine) run(script string) string {
	m.Helper()
	var said strings.Builder
	cmd := podman(m.Context(), "exec", m.name, "bash", "-euc", script)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		m.Fatalf("%s: %v: %s%s", script, err, out, said.String())
	}
	return strings.TrimSpace(string(out))
}

// put writes a file, as a whole.
func (m *machine) put(name, text string) {
	m.Helper()
	file := filepath.Join(m.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), testenv.WriteProgram(file+".part", []byte(text), 0o755), os.Rename(file+".part", file)); err != nil {
		m.Fatal(err)
	}
}

// read is what a file has, and nothing where it is missing.
func (m *machine) read(name string) string {
	m.Helper()
	text, err := os.ReadFile(filepath.Join(m.root, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.Fatal(err)
	}
	return string(text)
}

func (m *machine) eventually(what string, check func() error) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), 2*time.Minute)
	defer cancel()
	if err := testenv.Eventually(ctx, what, func(context.Context) error { return check() }); err != nil {
		m.Fatal(err)
	}
}
