package verification

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPassed goes on after a run that was killed while it wrote a line.
func TestPassed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passed.tsv")
	add := func(name, note string) *Passed {
		t.Helper()
		p, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Add(name, note); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := add("one", "1s\tTestOne"); len(p.before) > 0 {
		t.Errorf("before the first run, %v have passed", p.before)
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, append(text, "two\t2"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	add("three", "")
	p := add("four", "4s")
	for name, want := range map[string]string{"one": "1s\tTestOne", "three": ""} {
		if note, ok := p.Before(name); !ok || note != want {
			t.Errorf("%s: %q, %t, want %q", name, note, ok, want)
		}
	}
	for _, name := range []string{"two", "four"} {
		if note, ok := p.Before(name); ok {
			t.Errorf("%s has passed before: %q", name, note)
		}
	}
}

// TestPassedNowhere keeps nothing where no file is named, and says so where there can be none.
func TestPassedNowhere(t *testing.T) {
	p, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Add("one", ""); err != nil {
		t.Error(err)
	}
	if _, ok := p.Before("one"); ok {
		t.Error("it has passed before")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a directory can be read as a file")
	}
}
