package main

import (
	_ "embed" // for the page and its style
	"errors"
	"fmt"
	"html/template"
	"os"
	"time"
)

//go:embed page.html
var pageText string

//go:embed page.css
var styleText string

// page escapes whatever people may have written.
var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"moment": moment,
	"span":   span,
	"style":  func() template.CSS { return template.CSS(styleText) }, //nolint:gosec // our own
	"stamp":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"millis": func(ms int64) string { return span(time.Duration(ms) * time.Millisecond) },
}).Parse(pageText))

// write writes the page. It appears complete or not at all.
func write(path string, r *report) (err error) {
	part := path + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644) //nolint:gosec // there is no secret in it
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
