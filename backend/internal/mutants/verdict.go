package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// judge says what the output and the exit of a test binary mean.
func judge(out string, err error) result {
	if err == nil {
		if strings.Contains(out, "no tests to run") {
			return result{err: errors.New("there is no such test")}
		}
		return result{}
	}
	if test := firstFailure(out); test != "" {
		return result{caughtBy: test}
	}
	return result{err: fmt.Errorf("no test ran: %w\n%s", err, out)}
}

var (
	failed  = regexp.MustCompile(`^( *)--- FAIL: (.*) \([0-9.]+s\)$`)
	running = regexp.MustCompile(`^\t\t(\S.*) \([0-9a-z.]+\)$`)
	crashed = regexp.MustCompile(`^(panic|fatal error): .*$`)
)

// firstFailure returns the name of the test that failed first: the innermost
// one, for subtests stand below the test they belong to. Of a test that hung or
// a process that crashed, it says so.
func firstFailure(out string) string {
	name, depth, crash := "", -1, ""
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if m := failed.FindStringSubmatch(line); m != nil {
			if len(m[1]) <= depth {
				return name
			}
			name, depth = m[2], len(m[1])
		}
		if m := running.FindStringSubmatch(line); m != nil && strings.Contains(crash, "timed out") {
			return m[1] + " (hangs)"
		}
		if crash == "" && crashed.MatchString(line) {
			crash = line
		}
	}
	if name == "" {
		return crash
	}
	return name
}

// verdict is the result in a few words.
func (r result) verdict() string {
	switch {
	case r.err != nil:
		return "ERROR: " + r.err.Error()
	case r.caughtBy == "":
		return "SURVIVED"
	}
	return r.caughtBy
}

// report prints what caught each mutation. The error says how many nothing did.
func report(w io.Writer, mutations []mutation, results []result) error {
	survived, unknown := 0, 0
	rows := [][3]string{{"mutation", "caught by", "time"}, {"---", "---", "---"}}
	for i, r := range results {
		what, _, _ := strings.Cut(r.verdict(), "\n")
		rows = append(rows, [3]string{mutations[i].name, what, r.took.Round(100 * time.Millisecond).String()})
		switch {
		case r.err != nil:
			unknown++
		case r.caughtBy == "":
			survived++
		}
	}
	table(w, rows)
	if survived+unknown > 0 {
		return fmt.Errorf("of %d mutations, %d survived and %d could not be played", len(results), survived, unknown)
	}
	_, err := fmt.Fprintf(w, "\n%d mutations, each caught by a test.\n", len(results))
	return err
}

// table prints rows as Markdown, in columns.
func table(w io.Writer, rows [][3]string) {
	var width [3]int
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	for _, row := range rows {
		fmt.Fprintf(w, "| %-*s | %-*s | %*s |\n", width[0], row[0], width[1], row[1], width[2], row[2]) //nolint:errcheck // what follows tells
	}
}
