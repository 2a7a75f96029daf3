package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestList checks that each patch applies to the code as it is now, and names a test
// that there is.
func TestList(t *testing.T) {
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	all, err := list(root, regexp.MustCompile(""))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		patch, err := m.located(root)
		if err == nil {
			err = apply(t.Context(), root, patch, "--check")
		}
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if !exists(t, root, m.tests) {
			t.Errorf("%s: there is no such test: %s", m.name, m.tests)
		}
	}
	if len(all) < 250 {
		t.Errorf("there are only %d mutations", len(all))
	}
	for i, m := range all {
		if i > 0 && m.turn() < all[i-1].turn() {
			t.Errorf("%s comes after %s", m.name, all[i-1].name)
		}
	}
	if turn := all[0].turn(); turn != 0 {
		t.Errorf("no mutation is of %s: the first is %s", foremost[0], all[0].name)
	}
}

// TestGoesOn has mutations that were caught in an earlier run not played again.
func TestGoesOn(t *testing.T) {
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	only := regexp.MustCompile("^tripwire/")
	caught, err := list(root, only)
	if err != nil {
		t.Fatal(err)
	}
	results := filepath.Join(t.TempDir(), "results.tsv")
	text := ""
	for _, m := range caught {
		text += m.name + "\tTestIt\t1s\n"
	}
	if err := os.WriteFile(results, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), only, 1, results, false); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(results); err != nil || string(after) != text {
		t.Errorf("%q is noted, %v, want %q", after, err, text)
	}
}

var (
	testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	runFlag      = regexp.MustCompile(`^(\S+)(?: -run ([^/\s]*)| -skip |$)`)
)

// exists reports whether a package has a test that the flags run.
func exists(t *testing.T, root, tests string) bool {
	t.Helper()
	words := runFlag.FindStringSubmatch(tests)
	if words == nil {
		return false
	}
	run := regexp.MustCompile(words[2])
	files, _ := filepath.Glob(filepath.Join(root, words[1], "*_test.go"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range testFunction.FindAllSubmatch(text, -1) {
			if run.Match(name[1]) {
				return true
			}
		}
	}
	return false
}

// TestMoves plays a patch whose lines stand elsewhere by now: further down, in
// another file, in two others, and nowhere.
func TestMoves(t *testing.T) {
	const code = "package p\n\nfunc one() {\n\treturn\n}\n\nfunc two() {}\n"
	m := mutation{"group/name", "p", "It breaks.\ntest p\n--- a/here.go\n+++ b/here.go\n@@ -1,2 +1,1 @@\n func one() {\n-\treturn\n@@ -9,1 +8,1 @@\n-func two() {}\n+func two() { one() }\n"}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"down":       {map[string]string{"here.go": "// A comment.\n" + code, "there.go": code}, "here.go"},
		"elsewhere":  {map[string]string{"here.go": "package p\n", "there.go": code}, "there.go"},
		"gone":       {map[string]string{"there.go": code}, "there.go"},
		"twice":      {map[string]string{"here.go": code + code}, "exactly once"},
		"two others": {map[string]string{"there.go": code, "where.go": code}, "exactly once"},
		"nowhere":    {map[string]string{"here.go": "package p\n", "there.txt": code}, "exactly once"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range c.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			patch, err := m.located(dir)
			if !strings.HasSuffix(c.want, ".go") {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := change(t.Context(), dir, patch); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(dir, c.want))
			if err != nil || !strings.HasSuffix(string(got), "package p\n\nfunc one() {\n}\n\nfunc two() { one() }\n") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// TestMends takes out a line that stands further down by now, and puts it back there.
func TestMends(t *testing.T) {
	m := mutation{"group/name", "p", "It breaks.\ntest p\n--- a/here.go\n+++ b/here.go\n@@ -4,1 +3,0 @@\n-\treturn\n"}
	dir := t.TempDir()
	file := filepath.Join(dir, "here.go")
	const code = "package p\n\n// Comments\n// of lines.\nfunc one() {\n\treturn\n}\n"
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	patch, err := m.located(dir)
	if err != nil {
		t.Fatal(err)
	}
	mend, err := change(t.Context(), dir, patch)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{strings.Replace(code, "\treturn\n", "", 1), code} {
		got, err := os.ReadFile(file)
		if err != nil || string(got) != want {
			t.Errorf("it is %q, %v, want %q", got, err, want)
		}
		if err := mend(); err != nil {
			t.Error(err)
		}
	}
}

func TestJudge(t *testing.T) {
	failure := errors.New("exit status 1")
	for out, want := range map[string]string{
		"--- FAIL: TestA (0.10s)\n    --- FAIL: TestA/b_c (0.00s)\n        x_test.go:1: no\n--- FAIL: TestD (0.00s)\nFAIL\n": "TestA/b_c",
		"panic: test timed out after 1s\n\trunning tests:\n\t\tTestA (1s)\n\ngoroutine 1 [running]:\n":                       "panic: test timed out after 1s",
		"--- FAIL: TestA (0.00s)\npanic: runtime error: index out of range [recovered]\n":                                    "TestA",
		"fatal error: all goroutines are asleep - deadlock!\n":                                                               "fatal error: all goroutines are asleep - deadlock!",
	} {
		if caughtBy, err := judge(out, failure); caughtBy != want || err != nil {
			t.Errorf("%q: %q, %v, want %q", out, caughtBy, err, want)
		}
	}
	for _, out := range []string{"start PostgreSQL: no\nFAIL\tp\t0.1s\n", "# p\n./p.go:1: undefined: x\nFAIL\tp [build failed]\n"} {
		if caughtBy, err := judge(out, failure); err == nil {
			t.Errorf("%q counts as caught by %q", out, caughtBy)
		}
	}
	if _, err := judge("ok  \tp\t0.1s [no tests to run]\n", nil); err == nil {
		t.Error("a filter that matches nothing counts as survived")
	}
	if caughtBy, err := judge("ok  \tp\t0.1s\n", nil); caughtBy != "" || err != nil {
		t.Errorf("what passes is %q, %v", caughtBy, err)
	}
}
