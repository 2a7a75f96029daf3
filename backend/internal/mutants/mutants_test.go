package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestList checks that the list fits the code as it is now.
func TestList(t *testing.T) {
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	all, err := list()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range all {
		if names[m.name] {
			t.Errorf("there are two mutations %q", m.name)
		}
		names[m.name] = true
		if _, err := m.apply(root); err != nil {
			t.Error(err)
		}
	}
	if len(all) < 50 {
		t.Errorf("the list has only %d mutations", len(all))
	}
}

func TestParse(t *testing.T) {
	const text = "A comment.\ntest pkg -run X\n\n== one\nIt breaks\nthis.\nedit a.go\n \ta\n-\tb\n+\tc\n+\td\n\n== two\nThat.\ntest other\nedit b.go\n-x\n"
	got, err := parse(text)
	if err != nil || len(got) != 2 {
		t.Fatalf("%d mutations, %v", len(got), err)
	}
	if m := got[0]; m.name != "one" || m.breaks != "It breaks this." || m.tests != "pkg -run X" || m.edits[0] != (edit{"a.go", "\ta\n\tb\n", "\ta\n\tc\n\td\n"}) {
		t.Errorf("the first is %+v", m)
	}
	if m := got[1]; m.tests != "other" || m.edits[0] != (edit{"b.go", "x\n", ""}) {
		t.Errorf("the second is %+v", m)
	}
	for _, bad := range []string{"== one\nIt breaks.\ntest p\n", "== one\ntest p\nedit a\n-x\n", "== one\nIt breaks.\nedit a\n-x\n", "== one\nIt breaks.\ntest p\nedit a\nx\n"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestMisfits(t *testing.T) {
	for before, want := range map[string]string{
		"func TestMisfits(t *testing.T) {\n": "", "TestMisfits\n": "0 times", "\t}\n}\n": " times", "": "not once",
	} {
		_, err := mutation{edits: []edit{{file: "mutants_test.go", before: before}}}.apply(".")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", before, err)
		}
	}
}

func TestJudge(t *testing.T) {
	failure := errors.New("exit status 1")
	for out, want := range map[string]string{
		"--- FAIL: TestA (0.10s)\n    --- FAIL: TestA/b c (0.00s)\n        x_test.go:1: no\n--- FAIL: TestD (0.00s)\nFAIL\n": "TestA/b c",
		"panic: test timed out after 1s\n\trunning tests:\n\t\tTestA (1s)\n\t\tTestA/b (0s)\n\ngoroutine 1 [running]:\n":     "TestA (hangs)",
		"--- FAIL: TestA (0.00s)\npanic: runtime error: index out of range [recovered]\n":                                    "TestA",
		"fatal error: all goroutines are asleep - deadlock!\n":                                                               "fatal error: all goroutines are asleep - deadlock!",
	} {
		if r := judge(out, failure); r.caughtBy != want || r.err != nil {
			t.Errorf("%q: %+v, want %q", out, r, want)
		}
	}
	if r := judge("start PostgreSQL: no\n", failure); r.err == nil {
		t.Error("a server that does not start counts as caught")
	}
	if r := judge("testing: warning: no tests to run\nPASS\n", nil); r.err == nil {
		t.Error("a filter that matches nothing counts as survived")
	}
	if r := judge("PASS\n", nil); r.verdict() != "SURVIVED" {
		t.Errorf("what passes is %s", r.verdict())
	}
}
