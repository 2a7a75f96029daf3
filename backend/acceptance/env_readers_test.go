package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// envReaders are the readers of .env files that the table of docs/applications.md is about.
var envReaders = []struct {
	name string
	read func(e *engine, file string) map[string]string
}{
	{"sh, bash", shellsRead},
	{"`EnvironmentFile=` of systemd", systemdReads},
	{"Compose", func(e *engine, file string) map[string]string { return e.asJSON(reader(e, "dotenv"), "compose", file) }},
	{"python-dotenv", func(e *engine, file string) map[string]string {
		return e.asJSON("/usr/bin/python3", "-c", "import dotenv, json, sys; print(json.dumps(dotenv.dotenv_values(sys.argv[1])))", file)
	}},
	{"dotenv of Node", func(e *engine, file string) map[string]string {
		cmd := nodeScript(e.T, "backend/acceptance/node/dotenv.mjs")
		return e.asJSON(cmd.Path, append(cmd.Args[1:], file)...)
	}},
	{"`docker run --env-file`", func(e *engine, file string) map[string]string { return e.asJSON(reader(e, "dotenv"), "docker", file) }},
}

// asJSON runs a program that prints settings as JSON.
func (e *engine) asJSON(name string, args ...string) (settings map[string]string) {
	e.Helper()
	cmd := exec.CommandContext(e.Context(), name, args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err := errors.Join(err, json.Unmarshal(out, &settings)); err != nil {
		e.Fatalf("%s %q: %v: %.500s", name, args, err, said.String())
	}
	return settings
}

// shellsRead is what both shells read; what they don't agree on is missing.
func shellsRead(e *engine, file string) (settings map[string]string) {
	e.Helper()
	for _, shell := range []string{"sh", "bash"} {
		out, err := exec.CommandContext(e.Context(), "env", "-i", shell, "-c", `set -a; . "$0"; env -0`, file).Output()
		if err != nil {
			e.Fatal(err)
		}
		read := variablesOf(string(out))
		for name, value := range settings {
			if read[name] != value {
				delete(read, name)
			}
		}
		settings = read
	}
	return settings
}

// systemdReads is what a service has in its environment.
func systemdReads(e *engine, file string) map[string]string {
	e.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		e.Fatal(err)
	}
	m := boot(e.T, map[string]string{
		"/etc/settings":                        string(text),
		"/etc/systemd/system/settings.service": "[Service]\nType=oneshot\nEnvironmentFile=/etc/settings\nExecStart=/usr/bin/env -0\nStandardOutput=file:/etc/read\n",
	})
	m.run("systemctl start settings")
	return variablesOf(m.read("/etc/read"))
}

// envForms are the ways in which .env has a value: what characters it is for, and
// how it is written, for people and for comparison.
var envForms = []struct {
	of, written string
	write       func(value string) string
}{
	{"only letters, digits and `+/=_.:@%,-` (what the engine generates by default)", "as it is", func(value string) string { return value }},
	{"other characters too, but no `'`, no `${`, no `\\\\`, and no `\\` at the end", "`'…'`", func(value string) string { return "'" + value + "'" }},
	{"a `'`, but no `\"`, `\\`, `$` or `` ` ``", "`\"…\"`", func(value string) string { return `"` + value + `"` }},
	{"anything else", "`\"…\"`, with a `\\` before each `\"`, `\\`, `$` and `` ` ``", func(value string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(value) + `"`
	}},
}

// envSamples are values with every character at every place, what means something to
// readers, and generated ones. The same each time.
func envSamples() []string {
	const plain = "+/=_.:@%,-"
	samples := []string{
		"", "a$b\"c\\d`e`", "it's", "$(id)", "${HOME}", "$HOME", `a\`, `a\\b`, `\'`, `"'`, "a #b", "a b", " a ", "\ta\t", "é 名 💥", "export A=b", "\u0085\u2028\ufeff",
		"null", "'a'", `"a"`, "~", "a:~:b", "!!", "{a,b}", "*", "a=b", `\n`, "%n%s", "\\u0041",
	}
	for c := ' '; c <= '~'; c++ {
		samples = append(samples, string(c), "a"+string(c)+"b", string(c)+"a", "a"+string(c), string([]rune{c, c}), "a "+string(c)+" b")
	}
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // to be repeatable
	for _, alphabet := range []string{plain + "abcXYZ019", plain + "ab !#&*;<>?[]^{}|~()", "ab !#&*;<>?[]^{}|~()$`\"\\", "ab' #!&*;{}", "ab'\"\\$`{} #"} {
		for range 60 {
			value := make([]byte, 12)
			for i := range value {
				value[i] = alphabet[random.IntN(len(alphabet))]
			}
			samples = append(samples, string(value))
		}
	}
	return samples
}

// TestEnvReaders has an Agent write every sample, and every reader read them. What
// comes of it is the table in docs/applications.md.
func TestEnvReaders(t *testing.T) {
	t.Parallel()
	samples := envSamples()
	const last = `{{ template "setting" sprig_list "DB_USER" (executeTemplate "field" (sprig_append $db "username")) }}` + "\n"
	g := stored(t, answerOf("disable", "").with("samples", samples)).startAgent("agent", "agent.hcl",
		last, last+`{{ range $i, $value := .Data.samples }}{{ template "setting" sprig_list (printf "V%04d" $i) $value }}`+"\n{{ end }}")
	g.eventually("files", 30*time.Second, func(context.Context) error {
		_, err := os.Stat(filepath.Join(g.dir, "changed"))
		return err
	})
	forms := g.formsOf(samples)
	table := readBack(t, g, samples, forms)
	if !strings.Contains(page(t, "docs/applications.md"), table) {
		t.Errorf("docs/applications.md does not have this table:\n%s", table)
	}
}

// readBack is the table of who reads all samples of a form as they are.
func readBack(t *testing.T, g *agent, samples []string, forms []int) string {
	t.Helper()
	head, rows := "| a value with | is written |", make([]string, len(envForms))
	for form, f := range envForms {
		rows[form] = "| " + f.of + " | " + f.written + " |"
	}
	for _, r := range envReaders {
		head += " " + r.name + " |"
		// What a reader does not understand may hide what follows it.
		settings := r.read(g.engine, g.part(".env.most", forms, func(form int) bool { return form < len(envForms)-1 }))
		maps.Copy(settings, r.read(g.engine, g.part(".env.rest", forms, func(form int) bool { return form == len(envForms)-1 })))
		wrong := make([][]string, len(envForms))
		for i, value := range samples {
			if read := settings[fmt.Sprintf("V%04d", i)]; read != value {
				wrong[forms[i]] = append(wrong[forms[i]], fmt.Sprintf("%q of %q", read, value))
			}
		}
		for form := range rows {
			rows[form] += map[bool]string{true: " yes |", false: " no |"}[wrong[form] == nil]
			t.Logf("%s, written %s: %d are not read back: %.400q", r.name, envForms[form].written, len(wrong[form]), wrong[form])
		}
		if wrong[0] != nil {
			t.Errorf("%s makes %s, which is written as it is", r.name, wrong[0])
		}
	}
	return head + "\n|---|---|" + strings.Repeat("---|", len(envReaders)) + "\n" + strings.Join(rows, "\n") + "\n"
}

// part makes a file with the samples of some forms, as .env has them.
func (g *agent) part(name string, forms []int, wanted func(form int) bool) string {
	g.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, ".env"))
	if err != nil {
		g.Fatal(err)
	}
	var lines strings.Builder
	for line := range strings.Lines(string(text)) {
		var i int
		if _, err := fmt.Sscanf(line, "V%04d=", &i); err == nil && wanted(forms[i]) {
			lines.WriteString(line)
		}
	}
	file := filepath.Join(g.dir, name)
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		g.Fatal(err)
	}
	return file
}

// formsOf says for each sample how .env has it, as an index of envForms: the first
// that it can be.
func (g *agent) formsOf(samples []string) []int {
	g.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, ".env"))
	if err != nil {
		g.Fatal(err)
	}
	forms := make([]int, len(samples))
	for i, value := range samples {
		for forms[i] < len(envForms) && !strings.Contains(string(text), fmt.Sprintf("\nV%04d=%s\n", i, envForms[forms[i]].write(value))) {
			forms[i]++
		}
		if forms[i] == len(envForms) {
			g.Fatalf("%q is missing in .env", value)
		}
	}
	return forms
}
