package chaos

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/verification"
)

// TestLeft has a run of the matrix go on after one in which every third cell passed.
func TestLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passed.tsv")
	fresh := func() (*matrix, [][]row) {
		t.Helper()
		passed, err := verification.Open(path)
		must(t, err)
		t.Cleanup(func() { must(t, passed.Close()) })
		m := &matrix{rows: rows(), cells: map[string]*cell{}, passed: passed}
		return m, m.left(columns(), m.choose(columns(), true))
	}
	m, all := fresh()
	added := map[string]bool{}
	n := 0
	for i, col := range columns() {
		for _, r := range all[i] {
			if n++; n%3 == 0 {
				added[key(r, col)] = true
				must(t, m.passed.Add(key(r, col), "1.5s"))
			}
		}
	}
	m, left := fresh()
	if got := len(slices.Concat(left...)); got != n-len(added) || m.before != len(added) {
		t.Errorf("of %d cells, %d are left and %d have passed; %d were added", n, got, m.before, len(added))
	}
	for i, col := range columns() {
		for _, r := range left[i] {
			if added[key(r, col)] {
				t.Errorf("%s is left, and has passed", key(r, col))
			}
		}
		for _, r := range all[i] {
			if got := m.result(r, col); added[key(r, col)] != (got == "1500") {
				t.Errorf("%s: the table has %s", key(r, col), got)
			}
		}
	}
}
