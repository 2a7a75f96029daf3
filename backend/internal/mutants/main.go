// Command mutants breaks the engine on purpose, in many ways, one at a time, and
// fails unless some test notices each:
//
//	scripts/mutants.sh [-only REGEXP] [-jobs N] [-v]
//
// The ways are listed in list/*.txt: what each breaks, where, and the tests that
// ought to notice; see parse for the format. A text in the list that is not in
// the code any more is an error, so that the list cannot rot, and TestList says
// so without running anything. The tests run on a copy of the module that go
// build sees through an overlay, without the race detector.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"syscall"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// options are the command line.
type options struct {
	only    *regexp.Regexp
	jobs    int
	verbose bool
}

func main() {
	opts := options{only: regexp.MustCompile("")}
	flag.Func("only", "play only the mutations whose name matches `REGEXP`", func(s string) (err error) {
		opts.only, err = regexp.Compile(s)
		return err
	})
	flag.IntVar(&opts.jobs, "jobs", min(runtime.NumCPU(), 4), "how many mutations are played at a time")
	flag.BoolVar(&opts.verbose, "v", false, "show what the tests said of each mutation")
	flag.Parse()
	if err := run(opts); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(opts options) (err error) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	root, err := testenv.Root()
	if err != nil {
		return err
	}
	w, err := newWorkshop(root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.remove()) }()
	mutations, err := selected(w, opts.only)
	if err != nil {
		return err
	}
	g := &game{workshop: w, opts: opts, mutations: mutations}
	if err := g.baseline(ctx); err != nil {
		return err
	}
	results := g.play(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return report(os.Stdout, mutations, results)
}

// selected returns the mutations that are asked for, after checking that all of
// the list fits the code.
func selected(w *workshop, only *regexp.Regexp) ([]mutation, error) {
	all, err := list()
	if err != nil {
		return nil, err
	}
	var wanted []mutation
	for _, m := range all {
		_, misfit := m.apply(w.dir)
		err = errors.Join(err, misfit)
		if only.MatchString(m.name) {
			wanted = append(wanted, m)
		}
	}
	if err == nil && len(wanted) == 0 {
		err = errors.New("no mutation has such a name")
	}
	return wanted, err
}
