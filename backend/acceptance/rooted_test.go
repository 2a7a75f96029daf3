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
	if err := os.WriteFile(plugin, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := func(g *ground, env []string, name string, args ...string) ([]byte, error) {
		root, err := testenv.Root()
		g.must(err)
		ctx, cancel := context.WithTimeout(g.Context(), 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, filepath.Join(root, "bootstrap", name), args...)
		cmd.Env = append(os.Environ(), append(env, "PATH="+filepath.Dir(shared.vault.Binary)+":"+os.Getenv("PATH"),
			"VAULT_ADDR="+shared.vault.Address, "VAULT_TOKEN="+shared.vault.RootToken)...)
		cmd.WaitDelay = time.Second
		return cmd.CombinedOutput()
	}
	return map[string]writer{
		"enroll.sh": {func(g *ground, dir string) ([]byte, error) {
			return script(g, nil, "agent/enroll.sh", "-path", "rooted", "-name", "rooted", "-owner", "nobody", "-dir", dir, "default")
		}, []string{"role_id", "secret_id"}},
		"install.sh": {func(g *ground, dir string) ([]byte, error) {
			ca := filepath.Join(g.TempDir(), "ca.pem")
			g.must(os.WriteFile(ca, []byte(shared.postgres.CAPEM), 0o600))
			return script(g, []string{"VAULT_CACERT=" + ca}, "agent/install.sh", "-dir", dir, "-units", dir)
		}, []string{"agent.hcl", "templates/env.ctmpl", "vault-agent.env", "vault-ca.pem", "smvm-agent.service"}},
		"configure.sh": {func(g *ground, dir string) ([]byte, error) {
			return script(g, nil, "configure.sh", "-copy-only", "-version", "v0.1.0", "-plugin-dir", dir, plugin)
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
	return script(g, []string{"VAULT_TOKEN_FILE=" + token}, "poll.sh", "rooted/creds/default", filepath.Join(dir, "creds.json"),
		"sh", "-c", "kill $PPID")
}

// rootedRole is what poll.sh reads.
func rootedRole(t *testing.T) {
	t.Helper()
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

// TestRootedWrites has root write where only root can: that works, and whatever lies
// there from before is replaced, not written through.
func TestRootedWrites(t *testing.T) {
	rootedRole(t)
	for script, w := range writers(t) {
		for what, put := range plants {
			for _, part := range []string{"", ".part"} {
				t.Run(script+" "+what+part, func(t *testing.T) {
					g := newGround(t)
					for _, file := range w.files {
						g.must(os.MkdirAll(filepath.Dir(filepath.Join(g.dir, file)), 0o755), put(g, filepath.Join(g.dir, file+part)))
					}
					g.before = g.listing() // a hard link counts there too
					out, err := w.run(g, g.dir)
					g.unharmed()
					for _, file := range w.files {
						g.written(filepath.Join(g.dir, file), what, out, err)
					}
				})
			}
		}
	}
}

// written checks that the file is there and root's doing, unless a directory is in
// its way, or a file that is another build of a version.
func (g *ground) written(file, what string, out []byte, err error) {
	g.Helper()
	info, statErr := os.Lstat(file)
	if what == "a directory" || err != nil && strings.Contains(string(out), "is another build") {
		return
	}
	if statErr != nil || !info.Mode().IsRegular() || info.Sys().(*syscall.Stat_t).Nlink != 1 || info.Size() == 0 {
		g.Errorf("%s is not there as it should be: %v, %v, %v\n%s", file, info, statErr, err, out)
	}
}

// TestRootedRefuses has root write where another user can, or has made the way
// there: it says so and writes nothing.
func TestRootedRefuses(t *testing.T) {
	ways := map[string]func(g *ground) string{
		"the application's directory": func(g *ground) string { g.must(os.Chown(g.dir, nobody, nobody)); return g.dir },
		"one that its group may change": func(g *ground) string {
			g.must(os.Chown(g.dir, 0, nobody), os.Chmod(g.dir, 0o770))
			return g.dir
		},
		"one that all may change": func(g *ground) string { g.must(os.Chmod(g.dir, 0o1777)); return g.dir },
		"one below": func(g *ground) string {
			g.must(os.Chown(g.dir, nobody, nobody), os.Mkdir(filepath.Join(g.dir, "below"), 0o755))
			return filepath.Join(g.dir, "below")
		},
		"one below that is not there": func(g *ground) string {
			g.must(os.Chown(g.dir, nobody, nobody))
			return filepath.Join(g.dir, "a", "b")
		},
		"a link": func(g *ground) string {
			g.must(os.Remove(g.dir), os.Symlink(g.outside, g.dir))
			return g.dir
		},
		"a link above": func(g *ground) string {
			g.must(os.Remove(g.dir), os.Symlink(g.outside, g.dir))
			return filepath.Join(g.dir, "below")
		},
		"a link and dots": func(g *ground) string {
			g.must(os.Chown(g.dir, nobody, nobody), os.Symlink(g.outside, filepath.Join(g.dir, "x")))
			return g.dir + "/x/../application/y"
		},
	}
	for script, w := range writers(t) {
		for what, way := range ways {
			if script == "configure.sh" && (strings.Contains(what, "not there") || strings.Contains(what, "above") || strings.Contains(what, "dots")) {
				continue // it asks for a directory that exists
			}
			t.Run(script+" "+what, func(t *testing.T) {
				g := newGround(t)
				dir := way(g)
				out, err := w.run(g, dir)
				g.unharmed()
				if err == nil || !strings.Contains(string(out), "root does not write in") {
					t.Errorf("it says %v\n%s", err, out)
				}
				for _, file := range w.files {
					if _, err := os.Lstat(filepath.Join(dir, file)); err == nil {
						t.Errorf("it has written %s", file)
					}
				}
			})
		}
	}
}

// TestRootedRace has the application's user swap its directory for a link and back,
// as fast as it can, while root is told to write there.
func TestRootedRace(t *testing.T) {
	all := writers(t)
	for _, script := range []string{"enroll.sh", "install.sh", "configure.sh"} {
		t.Run(script, func(t *testing.T) {
			g := newGround(t)
			application := filepath.Join(g.dir, "of-the-application")
			g.must(os.Mkdir(application, 0o755), os.Chown(g.dir, nobody, nobody), os.Chown(application, nobody, nobody))
			ctx, stop := context.WithCancel(t.Context())
			swapping := exec.CommandContext(ctx, "sh", "-c", `cd "$0"; while :; do mv of-the-application kept; ln -s "$1" of-the-application; rm of-the-application; mv kept of-the-application; done`, g.dir, g.outside)
			swapping.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Setpgid: true}
			swapping.Cancel = func() error { return syscall.Kill(-swapping.Process.Pid, syscall.SIGKILL) }
			g.must(swapping.Start())
			for range 5 {
				if out, err := all[script].run(g, application); err == nil {
					t.Errorf("it wrote there: %s", out)
				}
			}
			stop()
			_ = swapping.Wait()
			g.unharmed()
		})
	}
}

// TestRootedKit installs the kit as root and enrolls, as the README says: the
// application's user can read its login and what the Agent needs, and change
// nothing of it.
func TestRootedKit(t *testing.T) {
	g := newGround(t)
	all := writers(t)
	for _, script := range []string{"install.sh", "enroll.sh", "install.sh", "enroll.sh"} {
		if out, err := all[script].run(g, g.dir); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	if out, err := g.asNobody("cat role_id secret_id agent.hcl templates/* vault-agent.env vault-ca.pem"); err != nil {
		t.Errorf("the application can't read what it needs: %v: %s", err, out)
	}
	for _, attempt := range []string{"touch new", "ln -s /etc/passwd role_id.part", "mv role_id other", "rm secret_id", "echo >>vault-agent.env", "echo >>agent.hcl", "touch templates/new", "mv templates other"} {
		if _, err := g.asNobody(attempt); err == nil {
			t.Errorf("the application may: %s", attempt)
		}
	}
	for _, file := range []string{"role_id", "secret_id"} {
		info, err := os.Lstat(filepath.Join(g.dir, file))
		if err != nil || info.Mode().Perm() != 0o600 || info.Sys().(*syscall.Stat_t).Uid != nobody {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
}

// asNobody runs a command in the directory as the application's user.
func (g *ground) asNobody(command string) ([]byte, error) {
	cmd := exec.CommandContext(g.Context(), "sh", "-c", command)
	cmd.Dir = g.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd.CombinedOutput()
}

// TestRootedInstallRefuses has the environment say what would become another line of
// the Agent's, or show a file that is none of a CA's.
func TestRootedInstallRefuses(t *testing.T) {
	g := newGround(t)
	root, err := testenv.Root()
	g.must(err)
	secret := filepath.Join(t.TempDir(), "shadow")
	link := filepath.Join(t.TempDir(), "ca.pem")
	g.must(os.WriteFile(secret, []byte("root:hash\n"), 0o600), os.Symlink(secret, link))
	for _, env := range [][]string{
		nil, {"VAULT_ADDR="}, {"VAULT_ADDR=https://vault\nLD_PRELOAD=/tmp/x.so"}, {"VAULT_ADDR=https://vault VAULT_SKIP_VERIFY=1"},
		{"VAULT_ADDR=https://\"vault"}, {"VAULT_ADDR=$(id)"}, {"VAULT_ADDR=https://vault:8200", "VAULT_CACERT=" + link},
		{"VAULT_ADDR=https://vault:8200", "VAULT_CACERT=/nowhere"},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(root, "bootstrap/agent/install.sh"), "-dir", g.dir, "-units", g.dir)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%q is taken: %s", env, out)
		}
		for _, file := range []string{"vault-agent.env", "vault-ca.pem"} {
			if text, err := os.ReadFile(filepath.Join(g.dir, file)); err == nil {
				t.Errorf("%q makes %s: %s", env, file, text)
			}
		}
	}
}
