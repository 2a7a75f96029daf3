package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/marked"
)

// row is one line of the report.
type row struct {
	work, measure string
	// reach is what is to be reached, in the words of the report.
	reach string
	// value is the median and range, and seen the medians of both sides.
	value, seen string
	reached     bool
}

// atLeast makes the row of a ratio of rates that is to be a bound or more.
func atLeast(what, measure string, bound float64, ours, theirs series) row {
	return ratioRow(what, measure, fmt.Sprintf("≥ %g ×", bound), ours, theirs, "per second", func(m float64) bool { return m >= bound })
}

// atMost makes the row of a ratio that is to be a bound or less.
func atMost(what, measure string, bound float64, ours, theirs series, unit string) row {
	return ratioRow(what, measure, fmt.Sprintf("≤ %g ×", bound), ours, theirs, unit, func(m float64) bool { return m <= bound })
}

func ratioRow(what, measure, reach string, ours, theirs series, unit string, reached func(float64) bool) row {
	quotients := ratios(ours.values, theirs.values)
	return row{
		work: what, measure: measure, reach: reach,
		value:   fmt.Sprintf("%.2f × (%s)", middle(quotients), spread(quotients)),
		seen:    fmt.Sprintf("%s and %s %s", brief(middle(ours.values)), brief(middle(theirs.values)), unit),
		reached: reached(middle(quotients)),
	}
}

// below makes the row of a value that is to stay below a bound.
func below(what, measure string, bound, value float64, unit string) row {
	return row{
		work: what, measure: measure, reach: strings.TrimSpace(fmt.Sprintf("< %g %s", bound, unit)),
		value: strings.TrimSpace(brief(value) + " " + unit), reached: value < bound,
	}
}

func brief(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// table shows the rows, in markdown.
func table(rows []row) string {
	var out strings.Builder
	out.WriteString("| work | measure | goal | measured: median (range) | medians of both sides | met |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&out, "| %s | %s | %s | **%s** | %s | %s |\n", r.work, r.measure, r.reach, r.value, r.seen, map[bool]string{true: "yes", false: "no"}[r.reached])
	}
	return out.String()
}

// text is the report, in markdown.
func (r *report) text() string {
	text := table(r.rows)
	if r.machine != "" {
		text = r.machine + "\n\n" + text + "\nCPU time by process:\n\n" + usages(r.compared)
	}
	return text
}

// publish prints the report, and writes it and the picture where they are wanted.
func (r *report) publish(s settings) error {
	text := r.text()
	fmt.Print(text)
	if s.picture != "" && r.costs != nil {
		if err := os.WriteFile(s.picture, []byte(draw(r.costs)), 0o644); err != nil { //nolint:gosec // for everybody to see
			return fmt.Errorf("write picture: %w", err)
		}
	}
	if s.report == "" || len(r.rows) == 0 {
		return nil
	}
	return marked.Replace(s.report, "bench", text)
}
