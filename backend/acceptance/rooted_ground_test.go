package acceptance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// nobody is the user and group of an application in these tests.
const nobody = 65534

// ground is a directory in which an application's user and root write.
type ground struct {
	*testing.T
	// dir is the directory that root is told to write in, outside what must not
	// change.
	dir, outside string
	before       string
}

// newGround makes a directory of root that holds both.
func newGround(t *testing.T) *ground {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this plants links for root to follow; run as root: scripts/test.sh -run Rooted ./backend/acceptance/")
	}
	top, err := os.MkdirTemp("/tmp", "smvm-rooted-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	g := &ground{T: t, dir: filepath.Join(top, "application"), outside: filepath.Join(top, "outside")}
	g.must(os.Chmod(top, 0o755), os.Mkdir(g.dir, 0o755), os.Mkdir(g.outside, 0o755))
	for _, name := range []string{"passwd", "shadow"} {
		g.must(os.WriteFile(filepath.Join(g.outside, name), []byte("root's own\n"), 0o644))
	}
	g.before = g.listing()
	return g
}

func (g *ground) must(errs ...error) {
	g.Helper()
	if err := errors.Join(errs...); err != nil {
		g.Fatal(err)
	}
}

// listing is all that root has outside, with owners, modes and contents.
func (g *ground) listing() string {
	g.Helper()
	var b strings.Builder
	g.must(filepath.WalkDir(g.outside, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %s %d %d", path, info.Mode(), owner.Uid, owner.Gid)
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			fmt.Fprintf(&b, " %q %v", text, err)
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// unharmed fails the test if anything outside has changed.
func (g *ground) unharmed() {
	g.Helper()
	if now := g.listing(); now != g.before {
		g.Errorf("root wrote through it: there was\n%sand now is\n%s", g.before, now)
	}
}

// plant is what an application's user may have put where root writes.
type plant func(g *ground, at string) error

// plants are all kinds of it.
var plants = map[string]plant{
	"nothing":        func(*ground, string) error { return nil },
	"a link":         func(g *ground, at string) error { return os.Symlink(filepath.Join(g.outside, "passwd"), at) },
	"a dangling one": func(g *ground, at string) error { return os.Symlink(filepath.Join(g.outside, "new"), at) },
	"one to a directory": func(g *ground, at string) error {
		return os.Symlink(g.outside, at)
	},
	"a hard link": func(g *ground, at string) error { return os.Link(filepath.Join(g.outside, "passwd"), at) },
	"a directory": func(_ *ground, at string) error { return os.Mkdir(at, 0o777) },
	"a FIFO":      func(_ *ground, at string) error { return syscall.Mkfifo(at, 0o666) },
	"a file":      func(_ *ground, at string) error { return os.WriteFile(at, []byte("the application's"), 0o666) },
}

// writer is a script that root runs, with what it writes in its directory.
type writer struct {
	run   func(g *ground, dir string) ([]byte, error)
	files []string
}

// writers are the scripts of bootstrap/ that write as root.
func writers(t *testing.T) map[string]writer {
	t.Helper()
	plugin := filepath.Join(t.TempDir(), "plugin")
	// What configure.sh looks for, and much smaller than the plugin.
	program, err := os.ReadFile("/bin/true")
	if err == nil {
		err = testenv.WriteProgram(plugin, append(program, "This binary is a plugin"...), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir() // has directories of the same names
	if err := os.MkdirAll(filepath.Join(elsewhere, "bootstrap", "apps", "agent"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := func(g *ground, env []string, name string, args ...string) ([]byte, error) {
		root, err := testenv.Root()
		g.must(err)
		ctx, cancel := context.WithTimeout(g.Context(), 2*time.Minute)
		defer cancel()
		// By a relative name, with what a careless environment may have.
		cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `umask 0 && exec "$0" "$@"`, filepath.Join("bootstrap", name)}, args...)...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), append(env, "CDPATH="+elsewhere, "PATH="+filepath.Dir(shared.vault.Binary)+":"+os.Getenv("PATH"),
			"VAULT_ADDR="+shared.vault.Address, "VAULT_TOKEN="+shared.vault.RootToken)...)
		cmd.WaitDelay = time.Second
		return cmd.CombinedOutput()
	}
	return map[string]writer{
		"enroll.sh": {func(g *ground, dir string) ([]byte, error) {
			return script(g, nil, "apps/agent/enroll.sh", "-path", "rooted", "-name", "rooted", "-instance", filepath.Base(filepath.Dir(g.dir)), "-owner", "nobody", "-dir", dir, "default")
		}, []string{"role_id", "secret_id"}},
		"install.sh": {func(g *ground, dir string) ([]byte, error) {
			ca := filepath.Join(g.TempDir(), "ca.pem")
			g.must(os.WriteFile(ca, []byte(shared.postgres.CAPEM), 0o600))
			return script(g, []string{"VAULT_CACERT=" + ca}, "apps/agent/install.sh", "-dir", dir, "-units", dir)
		}, []string{"agent.hcl", "templates/env.ctmpl", "vault-agent.env", "vault-ca.pem", "smvm-agent.service"}},
		"configure.sh": {func(g *ground, dir string) ([]byte, error) {
			return script(g, nil, "install/configure.sh", "-copy-only", "-version", "v0.1.0", "-plugin-dir", dir, plugin)
		}, []string{"vault-plugin-secrets-smvm_v0.1.0"}},
		"poll.sh": {func(g *ground, dir string) ([]byte, error) {
			return polled(g, script, dir)
		}, []string{"creds.json"}},
	}
}

// polled runs poll.sh until it has run its command, which ends it.
func polled(g *ground, script func(*ground, []string, string, ...string) ([]byte, error), dir string) ([]byte, error) {
	token := filepath.Join(g.TempDir(), "token")
	g.must(os.WriteFile(token, []byte(shared.vault.RootToken), 0o600))
	return script(g, []string{"VAULT_TOKEN_FILE=" + token}, "apps/poll.sh", "rooted/creds/default", filepath.Join(dir, "creds.json"),
		"sh", "-c", "kill $PPID")
}

// rootedRole makes, once, the role that enroll.sh is for and that poll.sh reads.
func rootedRole(t *testing.T) {
	t.Helper()
	if mounts, err := shared.vault.Client.Sys().ListMountsWithContext(t.Context()); err != nil || mounts["rooted/"] != nil {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	e := &engine{T: t, vault: shared.vault, postgres: shared.postgres, path: "rooted"}
	var err error
	if e.client, err = recorded(shared.vault.Client); err != nil {
		t.Fatal(err)
	}
	if err := shared.vault.Enable(t.Context(), e.path, ""); err != nil {
		t.Fatal(err)
	}
	e.write("roles/default", map[string]any{"auto_rotate": false})
	e.write("secrets/default/api", map[string]any{"type": "api_key"})
	e.creds()
}
