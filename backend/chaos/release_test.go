package chaos

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestReleaseHasNoFailpoints makes sure that what stops the plugin at a point is
// compiled only with the tag.
func TestReleaseHasNoFailpoints(t *testing.T) {
	root, err := testenv.Root()
	must(t, err)
	for tags, want := range map[string]bool{"": false, "failpoints": true} {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-tags", tags, "-f", "{{.GoFiles}}", "./backend")
		cmd.Dir = root
		files, err := cmd.Output()
		must(t, err)
		if got := strings.Contains(string(files), "failpoints.go"); got != want {
			t.Errorf("with tags %q, failpoints.go is compiled: %t", tags, got)
		}
	}
}
