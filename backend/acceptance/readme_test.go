package acceptance

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestReadme installs the engine by the shipped script and then runs every
// command of the README's quick start, and of its other sections with commands
// for an operator, as written, in a terminal.
func TestReadme(t *testing.T) {
	t.Parallel()
	e, shell := newOperated(t)
	install := "bootstrap/configure.sh -version v0.1.0 " + shared.plugin
	if out := shell.run(install); !strings.Contains(out, "smvm/ runs") {
		t.Errorf("configure.sh said\n%s", out)
	}
	if out := shell.run(install); strings.Contains(out, "changed   ") {
		t.Errorf("run again, configure.sh said\n%s", out)
	}
	commands := readmeCommands(t, shell.dir, "Quick start", "Tokens", "Policies", "Audit", "Records and report")
	out := shell.run("set -euo pipefail\nset -x\n" + commands)
	for _, words := range []string{"db_username", "dry_run", "completed", "stage", "# Secret Rotation Audit", "wrote bin/report.html", "all of it, and nothing was changed"} {
		if !strings.Contains(out, words) {
			t.Errorf("the commands of the README never showed %q:\n%s", words, out)
		}
	}
	e.works(e.creds())
	if report := e.read("verify/legacy"); report["valid"] != true {
		t.Errorf("verify reports %v", report)
	}
	e.history()
}

// newOperated starts servers with nothing on them, and a terminal to them.
func newOperated(t *testing.T) (*engine, *terminal) {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{T: t, vault: testenv.NewVault(t, testenv.VaultOptions{}), postgres: testenv.NewPostgres(t, testenv.PostgresOptions{Settings: talkative}), path: "smvm", prefix: "orders"}
	if e.client, err = recorded(e.vault.Client); err != nil {
		t.Fatal(err)
	}
	rememberServers(e.vault, e.postgres)
	remember(typedPassword)
	inspectAfter(t, e.vault, e.postgres)
	return e, &terminal{T: t, dir: root, unsealKey: e.vault.UnsealKey, env: append(os.Environ(),
		"PATH="+filepath.Dir(e.vault.Binary)+":"+e.postgres.BinDir+":"+os.Getenv("PATH"),
		"VAULT_ADDR="+e.vault.Address, "VAULT_TOKEN="+e.vault.RootToken,
		"PGHOST="+e.postgres.Host, "PGPORT="+strconv.Itoa(e.postgres.Port), "PGUSER="+testenv.Superuser, "PGPASSWORD="+e.postgres.Password)}
}

// readmeCommands returns the shell commands in sections of the README.
func readmeCommands(t *testing.T, root string, sections ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var commands strings.Builder
	for _, section := range sections {
		_, after, found := strings.Cut(string(text), "\n## "+section+"\n")
		if !found {
			t.Fatalf("the README has no section %q", section)
		}
		body, _, _ := strings.Cut(after, "\n## ")
		for i, block := range strings.Split(body, "```sh\n") {
			if code, _, ok := strings.Cut(block, "```"); ok && i > 0 {
				commands.WriteString(code)
			}
		}
	}
	return commands.String()
}

// typedPassword answers every question for one.
const typedPassword = "first-password-0123456789"

// terminal runs shell commands as somebody at a terminal would.
type terminal struct {
	*testing.T
	dir string
	env []string
	// unsealKey is what is typed when Vault asks for one.
	unsealKey string
}

// run runs a script, answers every question for a password with the same one,
// and returns all that was shown. The script must succeed.
func (s *terminal) run(script string) string {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = s.dir, s.env
	screen, err := pty.Start(cmd)
	if err != nil {
		s.Fatal(err)
	}
	defer screen.Close() //nolint:errcheck // nothing depends on it
	shown, _ := s.converse(screen)
	if err := cmd.Wait(); err != nil {
		s.Fatalf("%v:\n%s", err, shown)
	}
	return shown
}

// done is shown by a session after each of its scripts.
const done = '\x1e'

// converse reads what is shown until a script is done, or until the end, which is
// an error then, and answers questions.
func (s *terminal) converse(screen *os.File) (string, error) {
	var shown, line bytes.Buffer
	chunk := make([]byte, 4096)
	for {
		n, err := screen.Read(chunk)
		shown.Write(chunk[:n])
		for _, c := range chunk[:n] {
			if c == '\n' {
				line.Reset()
				continue
			}
			line.WriteByte(c)
		}
		if answer := s.answer(line.String()); answer != "" {
			line.Reset()
			if _, err := screen.WriteString(answer + "\n"); err != nil {
				s.Error(err)
			}
		}
		if before, found := strings.CutSuffix(shown.String(), string(done)); found || err != nil {
			return before, err
		}
	}
}

// answer is what is typed when the questions of psql, of Vault, and of the
// README's own reads are shown; nothing if it is none.
func (s *terminal) answer(line string) string {
	line = strings.ToLower(line)
	switch {
	case !strings.HasSuffix(line, ": ") || strings.HasPrefix(line, "+"):
		return ""
	case strings.HasPrefix(line, "unseal key"):
		return s.unsealKey
	case strings.Contains(line, "password"), strings.HasPrefix(line, "enter it again"):
		return typedPassword
	}
	return ""
}
