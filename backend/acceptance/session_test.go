package acceptance

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// session is a terminal whose shell lives on from one script to the next, with all
// its variables. It ends with the first command that fails.
type session struct {
	*terminal
	shell   *os.Process
	screen  *os.File
	scripts *os.File // each ends with a NUL
}

// follow runs the scripts that come by descriptor 3.
const follow = `set -euo pipefail
while IFS= read -r -d '' script <&3; do eval "$script" 3<&-; printf '\036'; done`

// session starts a shell that lives until the end of the test.
func (s *terminal) session() *session {
	s.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		s.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(s.Context()), "bash", "-c", follow)
	cmd.Dir, cmd.Env, cmd.ExtraFiles = s.dir, s.env, []*os.File{reader}
	// With a size, so that psql shows what fits without a pager.
	screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 200, Cols: 200})
	if err != nil {
		s.Fatal(err)
	}
	_ = reader.Close() // the shell has its own
	made := &session{terminal: s, shell: cmd.Process, screen: screen, scripts: writer}
	s.Cleanup(func() {
		made.kill()
		_ = cmd.Wait()
		_ = errors.Join(writer.Close(), screen.Close())
	})
	return made
}

// kill ends the shell and what runs in it.
func (s *session) kill() { _ = syscall.Kill(-s.shell.Pid, syscall.SIGKILL) }

// run runs a script, within two minutes, and returns all that was shown.
func (s *session) run(script string) string {
	s.Helper()
	hung := time.AfterFunc(2*time.Minute, s.kill)
	defer hung.Stop()
	if _, err := s.scripts.WriteString(script + "\x00"); err != nil {
		s.Fatal(err)
	}
	shown, err := s.converse(s.screen)
	if err != nil {
		s.Fatalf("%v: after\n%s\nit showed\n%s", err, script, shown)
	}
	return shown
}

// step is commands of a document, and what it says that one sees then.
type step struct {
	section, commands string
	// number counts the steps of a section.
	number int
	sees   []string
}

var (
	heading  = regexp.MustCompile(`^##+ (.*)$`)
	codeSpan = regexp.MustCompile("`([^`]+)`")
	// seeing is up to the end of the sentence.
	seeing = regexp.MustCompile(`You see (.*?)(\. |\.?$)`)
)

// forPsql is a block of SQL, which a shell gives to psql.
var forPsql = regexp.MustCompile("(?ms)^```sql\n(.*?)^```")

// steps are the code blocks of a document that are for a shell or for psql, in
// order; and the rows of its tables that end with something to try.
func steps(document string) (all []step) {
	document = forPsql.ReplaceAllString(document, "```sh\npsql -q -d orders -v ON_ERROR_STOP=1 <<'SQL'\n${1}SQL\n```")
	section, number, indent := "", 0, -1
	add := func(s step) {
		s.section, s.number = section, number
		all, number = append(all, s), number+1
	}
	for line := range strings.Lines(document) {
		line = strings.TrimRight(line, "\n")
		fence := strings.Index(line, "```")
		title := heading.FindStringSubmatch(line)
		switch {
		case indent >= 0 && fence >= 0:
			indent = -1
		case indent >= 0:
			all[len(all)-1].commands += line[min(indent, len(line)):] + "\n"
		case strings.HasSuffix(line, "```sh"):
			indent = fence
			add(step{})
		case title != nil:
			section, number = title[1], 0
		case strings.HasPrefix(line, "|"):
			if row, ok := tried(line); ok {
				add(row)
			}
		case len(all) > 0 && all[len(all)-1].section == section:
			all[len(all)-1].sees = append(all[len(all)-1].sees, saying(line)...)
		}
	}
	return all
}

// saying is what a line says that one sees.
func saying(line string) (words []string) {
	for _, sentence := range seeing.FindAllStringSubmatch(line, -1) {
		words = append(words, spans(sentence[1])...)
	}
	return words
}

func spans(text string) (all []string) {
	for _, span := range codeSpan.FindAllStringSubmatch(text, -1) {
		all = append(all, span[1])
	}
	return all
}

// tried reads a row whose last column is a command, an arrow, and what is in its
// answer.
func tried(row string) (step, bool) {
	const bar = "\x00"
	cells := strings.Split(strings.ReplaceAll(row, `\|`, bar), "|")
	command, sees, ok := strings.Cut(cells[len(cells)-2], " →")
	if !ok {
		return step{}, false
	}
	return step{commands: strings.ReplaceAll(strings.Trim(command, " `"), bar, "|"), sees: spans(sees)}, true
}
