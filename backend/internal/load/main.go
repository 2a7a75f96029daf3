// Command load proves that a service notices nothing of rotations: it runs
// cmd/smvm-api, or the service of bootstrap/apps/python, under a steady load, rotates
// its credentials again and again, and counts what fails. See scripts/load.sh, which is
// make load.
//
// Each run is one way to deliver credentials to the service, or to reach the database.
// In some, the plugin is killed in the middle of a rotation, and so is the Vault node
// that is active; in some, PostgreSQL fails over. What that alone costs is measured by
// runs without rotations. Vault's own static role is there for comparison.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/marked"
)

// settings are the command line.
type settings struct {
	rotations, rate       int
	only, report, picture string
}

func main() {
	var s settings
	flag.IntVar(&s.rotations, "rotations", 100, "how often to rotate in the runs that have to be flawless; an eighth of that in the others")
	flag.IntVar(&s.rate, "rate", 200, "requests per second; half of that behind a PgBouncer")
	flag.StringVar(&s.only, "only", "", "run only those whose name matches one of these `patterns`, separated by commas, such as python*")
	flag.StringVar(&s.report, "report", "", "markdown `file` whose tables are replaced by the new ones, each if all its runs were done")
	flag.StringVar(&s.picture, "picture", "", "`file` to draw latency and failures to, as SVG, if all runs ended")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// wants reports whether a run is to be done.
func (s settings) wants(sc scenario) bool {
	return s.only == "" || slices.ContainsFunc(strings.Split(s.only, ","), func(pattern string) bool {
		matched, err := path.Match(pattern, sc.name)
		return err == nil && matched
	})
}

// run does all runs one after the other, reports them, and returns an error
// unless they went as they have to.
func run(ctx context.Context, s settings) (err error) {
	wanted := slices.DeleteFunc(scenarios(s), func(sc scenario) bool { return !s.wants(sc) })
	if len(wanted) == 0 {
		return fmt.Errorf("-only: no run is called %s", s.only)
	}
	w, err := newWorld(ctx)
	defer func() { err = errors.Join(err, w.stop()) }()
	if err != nil {
		return err
	}
	var results []*result
	for _, sc := range wanted {
		say("%s: %d rotations at %d requests per second", sc.name, sc.rotations, sc.rate)
		r, failure := w.perform(ctx, sc)
		if r != nil {
			r.tellFailures()
		}
		if failure != nil {
			err = fmt.Errorf("run %s: %w", sc.name, failure)
			break
		}
		results = append(results, r)
	}
	return errors.Join(err, report(s, results, len(results) == len(wanted)), judge(results))
}

// report prints the tables, and writes them and the picture where they are wanted: a table
// if it has all its rows, the picture if all runs that were to be done ended.
func report(s settings, results []*result, complete bool) error {
	for _, t := range tables {
		var wanted int
		for _, sc := range scenarios(s) {
			if t.has(sc) {
				wanted++
			}
		}
		rows := slices.DeleteFunc(slices.Clone(results), func(r *result) bool { return !t.has(r.scenario) })
		if len(rows) == 0 {
			continue
		}
		text := fmt.Sprintf("Measured %s on %d processors.\n\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU()) + t.write(rows)
		fmt.Println(text)
		if s.report != "" && len(rows) == wanted {
			if err := marked.Replace(s.report, t.name, text); err != nil {
				return err
			}
		}
	}
	if s.picture == "" || !complete {
		return nil
	}
	if err := os.WriteFile(s.picture, draw(results), 0o644); err != nil { //nolint:gosec // for everybody to see
		return fmt.Errorf("write picture: %w", err)
	}
	return nil
}

// judge returns an error if a run in which nothing may fail had failures.
func judge(results []*result) error {
	var errs []error
	for _, r := range results {
		if _, others := r.failures(); r.flawless && (len(others) > 0 || len(r.refused) > 0) {
			errs = append(errs, fmt.Errorf("%s: %d requests failed, %d logins were refused: %v", r.name, len(others), len(r.refused), r.causes()))
		}
	}
	return errors.Join(errs...)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "load: "+format+"\n", args...) }
