package main

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed list/*.txt
var lists embed.FS

// mutation is one way to break the engine.
type mutation struct {
	name string
	// breaks says in a sentence what goes wrong.
	breaks string
	// tests are the ones that ought to notice: a package and flags of go test.
	tests string
	edits []edit
}

// edit replaces whole lines of a file.
type edit struct{ file, before, after string }

// list returns all mutations.
func list() ([]mutation, error) {
	files, err := lists.ReadDir("list")
	if err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	var all []mutation
	for _, f := range files {
		text, err := lists.ReadFile("list/" + f.Name())
		if err != nil {
			return nil, fmt.Errorf("read list: %w", err)
		}
		mutations, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("list/%s: %w", f.Name(), err)
		}
		all = append(all, mutations...)
	}
	return all, nil
}

// parse reads mutations, each of which is
//
//	== name
//	What it breaks, in a sentence.
//	test PACKAGE FLAGS-OF-GO-TEST…
//	edit FILE
//	 a line that stays, for context
//	-a line that is taken out
//	+a line that is put in
//
// with any number of edits. The lines that stay or are taken out must stand in
// the file exactly once. A test line before the first mutation holds for all that
// have none; other lines there are comments.
func parse(text string) ([]mutation, error) {
	var p parser
	for i, line := range strings.Split(text, "\n") {
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	for _, m := range p.mutations {
		if m.breaks == "" || m.tests == "" || len(m.edits) == 0 {
			return nil, fmt.Errorf("%q does not say what it breaks, where, or for which tests", m.name)
		}
	}
	return p.mutations, nil
}

// parser is what parse has read so far.
type parser struct {
	mutations []mutation
	tests     string // for mutations that name none
}

func (p *parser) line(line string) error {
	if name, ok := strings.CutPrefix(line, "== "); ok {
		p.mutations = append(p.mutations, mutation{name: name, tests: p.tests})
		return nil
	}
	tests, isTests := strings.CutPrefix(line, "test ")
	if len(p.mutations) == 0 {
		if isTests {
			p.tests = tests
		}
		return nil
	}
	m := &p.mutations[len(p.mutations)-1]
	file, isEdit := strings.CutPrefix(line, "edit ")
	switch {
	case line == "":
	case isTests:
		m.tests = tests
	case isEdit:
		m.edits = append(m.edits, edit{file: file})
	case len(m.edits) > 0:
		return m.edits[len(m.edits)-1].line(line)
	default:
		m.breaks = strings.TrimSpace(m.breaks + " " + line)
	}
	return nil
}

func (e *edit) line(line string) error {
	text := line[1:] + "\n"
	switch line[0] {
	case ' ':
		e.before, e.after = e.before+text, e.after+text
	case '-':
		e.before += text
	case '+':
		e.after += text
	default:
		return errors.New("a line of an edit begins with a blank, - or +")
	}
	return nil
}

// apply returns the changed files of the module in dir, by path within it.
func (m mutation) apply(dir string) (map[string]string, error) {
	changed := map[string]string{}
	for _, e := range m.edits {
		text, ok := changed[e.file]
		if !ok {
			content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(e.file)))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.name, err)
			}
			text = string(content)
		}
		// A line begins after the end of another.
		text, before := "\n"+text, "\n"+e.before
		if n := strings.Count(text, before); n != 1 || e.before == "" {
			return nil, fmt.Errorf("%s: %s has this %d times, not once; bring the list up to date:\n%s", m.name, e.file, n, e.before)
		}
		changed[e.file] = strings.Replace(text, before, "\n"+e.after, 1)[1:]
	}
	return changed, nil
}
