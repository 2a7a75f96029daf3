// Package verification notes which parts of a long run have passed, so that a run that
// was interrupted can go on where it stopped. Its tests are those of make verify-release.
package verification

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Passed is a file with a line for each part that has passed: its name, a tab, and a
// note. It is valid for one commit, which it does not check.
type Passed struct {
	before map[string]string
	file   *os.File
}

// Open reads the file at path, which need not exist. Without a path, nothing has passed
// before, and nothing is noted.
func Open(path string) (*Passed, error) {
	p := &Passed{before: map[string]string{}}
	if path == "" {
		return p, nil
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what has passed: %w", err)
	}
	// Whoever was killed while it wrote leaves a line without an end.
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	for line := range strings.Lines(string(whole)) {
		name, note, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		p.before[name] = note
	}
	p.file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err == nil {
		err = p.file.Truncate(int64(len(whole)))
	}
	if err != nil {
		return nil, fmt.Errorf("open what has passed: %w", err)
	}
	return p, nil
}

// Before returns the note of a part that had passed when the file was opened.
func (p *Passed) Before(name string) (note string, ok bool) {
	note, ok = p.before[name]
	return note, ok
}

// Add notes that a part has passed. Neither text may have a line break, nor the name a tab.
func (p *Passed) Add(name, note string) error {
	if p.file == nil {
		return nil
	}
	if _, err := p.file.WriteString(name + "\t" + note + "\n"); err != nil {
		return fmt.Errorf("note that %s has passed: %w", name, err)
	}
	return nil
}

// Close closes the file.
func (p *Passed) Close() error {
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}
