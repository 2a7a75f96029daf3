// Package render writes the report as one self-contained HTML file.
package render

import (
	_ "embed" // for the page and its style
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/cmd/smvm-report/internal/model"
)

//go:embed page.html
var pageText string

//go:embed page.css
var styleText string

// page escapes whatever people may have written.
var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"join":     func(names []string) string { return strings.Join(names, ", ") },
	"moment":   model.Moment,
	"span":     model.Span,
	"style":    func() template.CSS { return template.CSS(styleText) }, //nolint:gosec // our own
	"stamp":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"versions": rotation.SecretResult.Versions,
	"millis":   func(ms int64) string { return model.Span(time.Duration(ms) * time.Millisecond) },
}).Parse(pageText))

// Write writes the page to a file. It appears complete or not at all. Others may be able
// to write in the directory, so what they put in the way is removed, never written to.
func Write(path string, r *model.Report) (err error) {
	part := path + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write report: %w", err)
	}
	file, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // there is no secret in it
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := errors.Join(page.Execute(file, r), file.Close()); err != nil {
		return errors.Join(fmt.Errorf("write report: %w", err), os.Remove(part))
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
