package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// TestWriteProgram executes what it has just written, while this process starts others all
// the time.
func TestWriteProgram(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("/bin/true")
	must(t, err)
	dir := t.TempDir()
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			program := filepath.Join(dir, fmt.Sprint(i))
			for range 100 {
				if err := WriteProgram(program, content, 0o700); err != nil {
					t.Error(err)
					return
				}
				if err := exec.CommandContext(t.Context(), program).Run(); err != nil { //nolint:gosec // our own
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
}
