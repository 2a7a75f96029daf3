package marked

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReplace writes into one place of a file twice, and leaves the rest alone.
func TestReplace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	const page = "before\n<!-- load -->\nold\n<!-- /load -->\n<!-- bench -->\nkept\n<!-- /bench -->\n"
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first, $1\n", "second\n| a |\n"} {
		if err := Replace(file, "load", text); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if want := strings.Replace(page, "old\n", text, 1); err != nil || string(got) != want {
			t.Errorf("it is %q, want %q", got, want)
		}
	}
	if err := Replace(file, "other", "text\n"); err == nil || !strings.Contains(err.Error(), "<!-- other -->") {
		t.Errorf("without a place it says %v", err)
	}
}

// TestPagesHavePlaces looks for the places that make load, make bench-report and make kubernetes write to.
func TestPagesHavePlaces(t *testing.T) {
	for name, page := range map[string]string{"load": "guarantees.md", "load-failover": "guarantees.md", "bench": "performance.md", "kubernetes": "applications.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(t.TempDir(), page)
		if err := os.WriteFile(copied, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Replace(copied, name, "measured\n"); err != nil {
			t.Error(err)
		}
	}
}
