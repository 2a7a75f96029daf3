// Command mutants breaks the engine on purpose, in many ways, one at a time, and
// fails unless some test notices each:
//
//	scripts/mutants.sh [-only REGEXP] [-jobs N] [-v]
//
// Each way is a file, patches/GROUP/NAME.patch: a line that says what it breaks, one
// with the tests that have to notice, and what git diff -U0 printed:
//
//	A record claims what a later rotation has done.
//	test PACKAGE FLAGS-OF-GO-TEST…
//	--- a/FILE
//	+++ b/FILE
//	@@ -LINE,COUNT +LINE,COUNT @@
//	-a line that is taken out
//
// The lines that a patch takes out, or keeps for context, must be in FILE exactly
// once, wherever they stand; if they have moved, in exactly one other file. TestList
// says so without playing anything. The tests run on copies of the module, without
// the race detector.
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
	"sync"
	"syscall"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// patience is how long tests may take, beyond five times what they take when
// nothing is broken, before a mutation counts as hanging.
const patience = 30 * time.Second

func main() {
	only := regexp.MustCompile("")
	flag.Func("only", "play only the mutations whose name, GROUP/NAME, matches `REGEXP`", func(s string) (err error) {
		only, err = regexp.Compile(s)
		return err
	})
	jobs := flag.Int("jobs", min(runtime.NumCPU(), 4), "how many mutations are played at a time")
	verbose := flag.Bool("v", false, "show what the tests said of each mutation")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	if err := run(ctx, only, max(*jobs, 1), *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run plays the mutations that are asked for, some at a time, each in a copy of the
// module that no other uses meanwhile. The error names those that nothing notices.
func run(ctx context.Context, only *regexp.Regexp, jobs int, verbose bool) (err error) {
	root, err := testenv.Root()
	if err != nil {
		return err
	}
	mutations, err := list(root, only)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "smvm-mutants-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	trees := make(chan tree, jobs)
	for i := range jobs {
		t, err := newTree(ctx, root, fmt.Sprintf("%s/%d", scratch, i))
		if err != nil {
			return err
		}
		t.verbose = verbose
		trees <- t
	}
	taken, err := baseline(ctx, trees, mutations)
	if err != nil {
		return err
	}
	failures := make([]error, len(mutations))
	var playing sync.WaitGroup
	for i, m := range mutations {
		t := <-trees
		if ctx.Err() != nil {
			break
		}
		playing.Go(func() {
			failures[i] = t.play(ctx, m, patience+5*taken[m.tests])
			trees <- t
		})
	}
	playing.Wait()
	if err := errors.Join(context.Cause(ctx), errors.Join(failures...)); err != nil {
		return err
	}
	fmt.Printf("%d mutations, each caught by a test.\n", len(mutations))
	return nil
}

// baseline runs the tests on what is not broken: who fails then proves nothing. It
// returns how long each takes.
func baseline(ctx context.Context, trees chan tree, mutations []mutation) (map[string]time.Duration, error) {
	t := <-trees
	defer func() { trees <- t }()
	taken := map[string]time.Duration{}
	for _, m := range mutations {
		if taken[m.tests] > 0 {
			continue
		}
		began := time.Now()
		caughtBy, err := t.test(ctx, m.tests, 5*time.Minute)
		if err != nil || caughtBy != "" {
			return nil, fmt.Errorf("with nothing broken, go test %s: %s fails: %w", m.tests, caughtBy, err)
		}
		taken[m.tests] = time.Since(began)
		say(taken[m.tests], "go test "+m.tests, "nothing is broken")
	}
	return taken, nil
}

func say(took time.Duration, what, result string) {
	fmt.Printf("%-8s %s: %s\n", took.Round(100*time.Millisecond), what, result)
}
