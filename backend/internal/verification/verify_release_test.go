package verification

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// madeUp are parts that find beside the repository what they are to do, and count their
// runs there.
const madeUp = `
part quick 1m 'what is quick' 'all .* is so' 'echo >>"$root/../quick"; echo "all of | it is so"'
part broken 1m 'what breaks' 'it holds' 'echo >>"$root/../broken"; touch left-behind; [ -e "$root/../mended" ] && echo it holds || { echo "| it has a crack" >&2; exit 3; }'
part hung 1s 'what hangs' . 'tail -f /dev/null'
part silent 1m 'what says nothing' 'tests passed' '[ ! -e left-behind ]'
part long 1m 'what goes on' 'all .*' '
	exec 8>"$root/../held"
	flock 8
	for step in one two three; do
		grep -qs "^$step" "$progress" && continue
		[ $step != two ] || [ -e "$root/../released" ] || { touch "$root/../waits"; tail -f /dev/null; }
		printf "%s\tnoted\n" $step >>"$progress"
	done
	echo "all $(wc -l <"$progress")"'
`

// project is a repository with the script of make verify-release, and parts that are made up.
type project struct {
	*testing.T
	dir string
}

func newProject(t *testing.T) *project {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	p := &project{t, filepath.Join(t.TempDir(), "project")}
	scripts := filepath.Join(p.dir, "scripts")
	if err := errors.Join(os.MkdirAll(scripts, 0o755), os.WriteFile(filepath.Join(scripts, "verify-release-parts.sh"), []byte(madeUp), 0o600)); err != nil {
		t.Fatal(err)
	}
	p.run("mkdir docs ../tmp && cp " + root + "/scripts/prelude.sh " + root + "/scripts/verify-release.sh scripts && echo /bin/ >.gitignore && git init -q")
	return p
}

func (p *project) command(script string) *exec.Cmd {
	cmd := exec.CommandContext(p.Context(), "bash", "-euc", script)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "TMPDIR="+p.dir+"/../tmp", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=x", "GIT_AUTHOR_EMAIL=x", "GIT_COMMITTER_NAME=x", "GIT_COMMITTER_EMAIL=x")
	return cmd
}

func (p *project) run(script string) string {
	p.Helper()
	out, err := p.command(script).CombinedOutput()
	if err != nil {
		p.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// commit commits everything, and returns the commit as the page shows it.
func (p *project) commit() string {
	p.Helper()
	return "`" + p.run("git add -A && git commit -qm x && git rev-parse HEAD")[:10] + "`"
}

// verify runs the parts that match, and checks its exit code and what it says.
func (p *project) verify(only string, code int, says string) {
	p.Helper()
	cmd := p.command("scripts/verify-release.sh '" + only + "'")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != code || !strings.Contains(string(out), says) {
		p.Errorf("verify-release.sh %s: %v: %s, want %d and %q", only, err, out, code, says)
	}
}

// shows checks what the page's rows about a part say, times left out.
func (p *project) shows(part string, want ...string) {
	p.Helper()
	page, err := os.ReadFile(filepath.Join(p.dir, "docs/verification.md"))
	if err != nil {
		p.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) == 10 && strings.TrimSpace(cells[1]) == part {
			got = append(got, strings.Join(strings.Fields(strings.Join([]string{cells[3], cells[4], cells[7], cells[8]}, "|")), " "))
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		p.Errorf("the page says of %s\n%s\nand has to say\n%s", part, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// ran checks how often a part ran.
func (p *project) ran(part string, want int) {
	p.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "..", part))
	if got := strings.Count(string(text), "\n"); err != nil || got != want {
		p.Errorf("%s ran %d times, want %d: %v", part, got, want, err)
	}
}

// TestVerifyRelease has parts that pass, fail, hang and prove nothing, mends one, and goes
// on with that.
func TestVerifyRelease(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	first := p.commit()
	p.verify("nonsense", 1, "no part is called nonsense; there are quick broken hung silent long")
	p.verify("quick|broken|hung|silent", 1, "1 of 5 parts have passed on "+strings.Trim(first, "`")+"; left: broken hung silent long")
	p.shows("quick", "passed | "+first+" | 1 of 1 | all of, it is so")
	p.shows("broken", "failed | "+first+" | 0 of 1 | `it has a crack`")
	p.shows("hung", "stopped after 1s | "+first+" | 0 of 1 | ``")
	p.shows("silent", "failed: its output lacks what is looked for | "+first+" | 0 of 1 | ``")
	p.shows("long", "not run yet | | |")

	p.run("touch ../mended")
	p.commit() // of results, which is not another commit to verify
	p.verify("quick|broken", 0, "2 of 5 parts")
	p.shows("broken", "passed | "+first+" | 1 of 2 | it holds")
	p.ran("quick", 1)
	p.ran("broken", 2)

	p.run("touch extra && rm ../mended")
	p.verify("quick", 1, "here are changes that are not committed: ?? extra")
	second := p.commit()
	p.verify("broken", 1, "0 of 5 parts")
	p.shows("quick", "passed | another: "+first+" | 1 of 1 | all of, it is so")
	p.shows("broken", "failed | "+second+" | 0 of 1 | `it has a crack`", "passed | another: "+first+" | 1 of 2 | it holds")
}

// TestVerifyReleaseGoesOn kills the script in the middle of a part that can go on.
func TestVerifyReleaseGoesOn(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	commit := p.commit()
	cmd := p.command("exec scripts/verify-release.sh long")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err := testenv.Eventually(ctx, "the second step", func(context.Context) error {
		_, err := os.Stat(filepath.Join(p.dir, "../waits"))
		return err
	})
	if err := errors.Join(err, cmd.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	p.run("flock -w 120 ../held true") // the part ends too
	p.verify("quick", 0, "left: broken hung silent long")
	p.shows("long", "unfinished | "+commit+" | | passed so far: 1")

	p.run("touch ../released")
	p.verify("long", 0, "2 of 5 parts")
	p.shows("long", "passed | "+commit+" | 1 of 1 | all 3")
	if left, _ := filepath.Glob(filepath.Join(p.dir, "docs/verification/long-*")); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}
