// Package marked writes what was measured where a document has a place for it.
package marked

import (
	"fmt"
	"os"
	"regexp"
)

// Replace puts text between the lines <!-- name --> and <!-- /name --> of a file.
// Text ends with a newline. A file without that place is an error, and stays as it is.
func Replace(file, name, text string) error {
	before, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	place := regexp.MustCompile(`(?s)(<!-- ` + name + ` -->\n).*?(<!-- /` + name + ` -->)`).FindSubmatchIndex(before)
	if place == nil {
		return fmt.Errorf("write report: %s has no place for it between <!-- %[2]s --> and <!-- /%[2]s -->", file, name)
	}
	after := string(before[:place[3]]) + text + string(before[place[4]:])
	if err := os.WriteFile(file, []byte(after), 0o644); err != nil { //nolint:gosec // for everybody to see
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
