package acceptance

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

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

// TestRootedLock has the lock of enroll.sh made by root, so that no other user can hold it.
// Whatever else lies in its place is neither opened nor changed.
func TestRootedLock(t *testing.T) {
	rootedRole(t)
	enroll := writers(t)["enroll.sh"]
	for what, put := range plants {
		g := newGround(t)
		lock := filepath.Join(g.dir, ".enroll.lock")
		g.must(put(g, lock))
		held, err := os.Open(g.dir) // as anybody can
		g.must(err, syscall.Flock(int(held.Fd()), syscall.LOCK_EX))
		if what == "a file" {
			g.must(os.Chown(lock, nobody, nobody))
		}
		g.before = g.listing()
		out, err := enroll.run(g, g.dir)
		g.must(held.Close())
		g.unharmed()
		if what == "a hard link" {
			continue // which is root's own file
		}
		if what != "nothing" {
			if err == nil || !strings.Contains(string(out), lock+" is no file of root's. Delete it") {
				t.Errorf("%s in place of the lock: %v: %s", what, err, out)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if out, err := g.asNobody("true 9<.enroll.lock || true 9>>.enroll.lock"); err == nil || !strings.Contains(string(out), "Permission denied") {
			t.Errorf("the application can open the lock: %v: %s", err, out)
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

// TestRootedKit installs the kit as root and enrolls, as docs/applications.md says: the
// application's user can read its login and what the Agent needs, and change
// nothing of it.
func TestRootedKit(t *testing.T) {
	rootedRole(t)
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
		nil,
		{"VAULT_ADDR="},
		{"VAULT_ADDR=https://vault\nLD_PRELOAD=/tmp/x.so"},
		{"VAULT_ADDR=https://vault VAULT_SKIP_VERIFY=1"},
		{"VAULT_ADDR=https://\"vault"},
		{"VAULT_ADDR=$(id)"},
		{"VAULT_ADDR=https://vault:8200", "VAULT_CACERT=" + link},
		{"VAULT_ADDR=https://vault:8200", "VAULT_CACERT=/nowhere"},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(root, "bootstrap/apps/agent/install.sh"), "-dir", g.dir, "-units", g.dir)
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
