package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestConditions compares the names with those of each major version.
func TestConditions(t *testing.T) {
	for major := 14; major <= 18; major++ {
		bin, err := testenv.PostgresBin(t.Context(), major)
		expect.OK(t, err)
		paths := []string{filepath.Join(bin, "..", "share", "postgresql", "errcodes.txt"), fmt.Sprintf("/usr/share/postgresql/%d/errcodes.txt", major)}
		text, err := os.ReadFile(paths[0])
		if err != nil {
			text, err = os.ReadFile(paths[1])
		}
		expect.OK(t, err)
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) == 4 && len(fields[0]) == 5 && !strings.HasPrefix(line, "#") && !strings.HasPrefix(condition(fields[0]), fields[3]+" ") && !duplicated(string(text), fields[0]) {
				t.Errorf("%d: %s is %s here", major, strings.TrimSpace(line), condition(fields[0]))
			}
		}
	}
}

// duplicated reports whether a SQLSTATE has several names.
func duplicated(text, code string) bool { return strings.Count(text, "\n"+code) > 1 }
