package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutation is one way to break the engine.
type mutation struct {
	// name is that of its file below patches, without the suffix.
	name string
	// tests are the ones that have to notice: a package and flags of go test.
	tests string
	patch string
}

// header is what a patch begins with.
var header = regexp.MustCompile(`\A\S.*\ntest (\S.*)\n--- a/`)

// foremost are the packages whose tests' mutations are played first: the state machine,
// and the sessions at PostgreSQL.
var foremost = []string{"backend/rotation", "backend/secret/database", "backend/postgres"}

// turn is smaller for mutations that are played earlier.
func (m mutation) turn() int {
	tested, _, _ := strings.Cut(m.tests, " ")
	if at := slices.Index(foremost, tested); at >= 0 {
		return at
	}
	return len(foremost)
}

// list returns the mutations whose names match, in the order in which they are played.
func list(root string, only *regexp.Regexp) ([]mutation, error) {
	dir := filepath.Join(root, "backend/internal/mutants/patches")
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.patch"))
	if err != nil {
		return nil, err
	}
	var found []mutation
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, dir+"/"), ".patch")
		if !only.MatchString(name) {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		says := header.FindSubmatch(text)
		if says == nil {
			return nil, fmt.Errorf("%s does not begin with what it breaks, and the tests that have to notice", file)
		}
		found = append(found, mutation{name, string(says[1]), string(text)})
	}
	if len(found) == 0 {
		return nil, errors.New("no mutation has such a name")
	}
	slices.SortStableFunc(found, func(a, b mutation) int { return cmp.Compare(a.turn(), b.turn()) })
	return found, nil
}

// located returns the patch with the paths of the files that have its lines now.
func (m mutation) located(root string) (string, error) {
	patch := m.patch
	for _, part := range strings.Split(m.patch, "\n--- a/")[1:] {
		file, hunks, _ := strings.Cut(part, "\n")
		now, err := locate(root, file, replaced(hunks))
		if err != nil {
			return "", err
		}
		patch = strings.ReplaceAll(patch, "/"+file+"\n", "/"+now+"\n")
	}
	return patch, nil
}

// replaced returns the lines that each hunk takes out, or keeps for context.
func replaced(hunks string) []string {
	var texts []string
	for _, hunk := range strings.Split(hunks, "\n@@ ")[1:] {
		_, lines, _ := strings.Cut(hunk, "\n")
		text := "\n"
		for line := range strings.Lines(lines) {
			if line[0] != '+' {
				text += line[1:]
			}
		}
		texts = append(texts, text)
	}
	return texts
}

// locate returns file, if it has the texts exactly once, or else the one other file
// that does.
func locate(root, file string, texts []string) (string, error) {
	if has(filepath.Join(root, file), texts) {
		return file, nil
	}
	var others []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Ext(path) == filepath.Ext(file) && has(path, texts) {
			others = append(others, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err == nil && len(others) != 1 {
		err = fmt.Errorf("neither %s nor just one other file (%q) has this exactly once; bring the patch up to date:%s", file, others, strings.Join(texts, "…"))
	}
	return strings.Join(others, ""), err
}

// has reports whether a file has each of the texts exactly once.
func has(path string, texts []string) bool {
	content, err := os.ReadFile(path)
	for _, text := range texts {
		if err != nil || strings.Count("\n"+string(content), text) != 1 {
			return false
		}
	}
	return err == nil
}

// change applies a patch to the files below dir, and returns what makes them as they were.
// git can't do that: without context, it finds where a line was taken out by the line's
// number only, and that is of the time when the patch was made.
func change(ctx context.Context, dir, patch string) (mend func() error, _ error) {
	before := map[string][]byte{}
	for _, part := range strings.Split(patch, "\n--- a/")[1:] {
		file, _, _ := strings.Cut(part, "\n")
		file = filepath.Join(dir, file)
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("change: %w", err)
		}
		before[file] = text
	}
	mend = func() error {
		var errs []error
		for file, text := range before {
			errs = append(errs, os.WriteFile(file, text, 0o600)) // which keeps its mode
		}
		return errors.Join(errs...)
	}
	return mend, apply(ctx, dir, patch)
}

// apply applies a patch to the files below dir.
func apply(ctx context.Context, dir, patch string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "git", append([]string{"apply", "--unidiff-zero"}, flags...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	cmd.Stdin = strings.NewReader(patch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apply: %w: %s", err, out)
	}
	return nil
}
