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
	return e, &terminal{T: t, dir: root, unsealKey: e.vault.UnsealKey, found: "is-no-value-0123456789", env: append(os.Environ(),
		"PATH="+filepath.Dir(e.vault.Binary)+":"+e.postgres.BinDir+":"+os.Getenv("PATH"),
		"VAULT_ADDR="+e.vault.Address, "VAULT_TOKEN="+e.vault.RootToken,
		"PGHOST="+e.postgres.Host, "PGPORT="+strconv.Itoa(e.postgres.Port), "PGUSER="+testenv.Superuser, "PGPASSWORD="+e.postgres.Password)}
}

// typedPassword answers every question for one.
const typedPassword = "first-password-0123456789"

// terminal runs shell commands as somebody at a terminal would.
type terminal struct {
	*testing.T
	dir string
	env []string
	// unsealKey is what is typed when Vault asks for one, and found the value that leaked.
	unsealKey, found string
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
// documents' own reads are shown; nothing if it is none.
func (s *terminal) answer(line string) string {
	line = strings.ToLower(line)
	switch {
	case !strings.HasSuffix(line, ": ") || strings.HasPrefix(line, "+"):
		return ""
	case strings.HasPrefix(line, "unseal key"):
		return s.unsealKey
	case strings.HasPrefix(line, "value that was found"):
		return s.found
	case strings.Contains(line, "password"), strings.HasPrefix(line, "enter it again"):
		return typedPassword
	}
	return ""
}
