// Command bench measures the engine beside what a user would pick instead: Vault's
// own database engine and KV version 2, in the same server, and beside plugins
// that do nothing. See scripts/bench.sh, which is make bench.
//
// Machines differ, so every figure is a ratio. Both sides are measured in turns, in
// the same run, and the report gives the median of the rounds and their spread.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// settings are the command line.
type settings struct {
	rounds, roles, wave int
	only                string
	report, picture     string
}

func main() {
	var s settings
	flag.IntVar(&s.rounds, "rounds", 7, "how often each side is measured")
	flag.IntVar(&s.roles, "roles", 10000, "how many roles there are at the end of the measurements of growth")
	flag.IntVar(&s.wave, "wave", 1000, "how many roles are due at once")
	flag.StringVar(&s.only, "only", "", "measure only the groups whose names contain this `text`")
	flag.StringVar(&s.report, "report", "", "markdown `file` whose table is replaced by the new one")
	flag.StringVar(&s.picture, "picture", "", "`file` to draw cost against size to, as SVG")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// group is measurements that need the same preparation. The Go benchmarks, which are
// called costs, need none.
type group struct {
	name    string
	measure func(ctx context.Context, w *world, s settings) ([]row, error)
}

var groups = []group{
	{"reads", measureReads},
	{"rotation", measureRotation},
	{"wave", measureWaves},
	{"growth", measureGrowth},
}

// report is what was measured so far.
type report struct {
	machine  string
	rows     []row
	compared []series
	costs    map[string]map[int]cost // of the Go benchmarks, by name and number of roles
}

// run measures all groups, prints the tables, and writes the report.
func run(ctx context.Context, s settings) error {
	var r report
	for _, g := range groups {
		if !strings.Contains(g.name, s.only) {
			continue
		}
		if err := r.add(ctx, g, s); err != nil {
			fmt.Print(r.text())
			return fmt.Errorf("measure %s: %w", g.name, err)
		}
	}
	if strings.Contains("costs", s.only) {
		if err := r.addCosts(ctx); err != nil {
			fmt.Print(r.text())
			return fmt.Errorf("measure costs: %w", err)
		}
	}
	return r.publish(s)
}

// add measures a group in a world of its own, so that nothing is in its way that
// another one has left.
func (r *report) add(ctx context.Context, g group, s settings) (err error) {
	w, err := newWorld(ctx)
	defer func() { err = errors.Join(err, w.stop(context.WithoutCancel(ctx))) }()
	if err != nil {
		return err
	}
	r.machine = w.machine(ctx)
	rows, err := g.measure(ctx, w, s)
	r.rows, r.compared = append(r.rows, rows...), append(r.compared, w.compared...)
	return err
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
