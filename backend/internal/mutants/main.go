// Command mutants breaks the engine on purpose, in many ways, one at a time, and
// fails unless some test notices each:
//
//	scripts/mutants.sh [-only REGEXP] [-jobs N] [-results FILE] [-v]
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
//
// With -results, each mutation that was caught is noted in FILE, and those that FILE has
// are not played again. FILE is for one commit.
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
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/verification"
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
	results := flag.String("results", "", "note in `FILE` which mutations were caught, and leave out those that it has")
	verbose := flag.Bool("v", false, "show what the tests said of each mutation")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	if err := run(ctx, only, max(*jobs, 1), *results, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run plays the mutations that are asked for, some at a time, each in a copy of the
// module that no other uses meanwhile. The error names those that nothing notices.
func run(ctx context.Context, only *regexp.Regexp, jobs int, results string, verbose bool) (err error) {
	root, err := testenv.Root()
	if err != nil {
		return err
	}
	mutations, err := list(root, only)
	if err != nil {
		return err
	}
	passed, err := verification.Open(results)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, passed.Close()) }()
	var left []mutation
	taken := map[string]time.Duration{} // by tests, with nothing broken
	for _, m := range mutations {
		note, before := passed.Before(m.name)
		if !before {
			left = append(left, m)
			continue
		}
		_, took, _ := strings.Cut(note, "\t")
		taken[m.tests], _ = time.ParseDuration(took)
	}
	fmt.Printf("%d mutations of %d are left.\n", len(left), len(mutations))
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
		t.passed, t.verbose = passed, verbose
		trees <- t
	}
	failures := make([]error, len(left))
	var playing sync.WaitGroup
	for i, m := range left {
		t := <-trees
		if ctx.Err() != nil {
			break
		}
		if taken[m.tests] == 0 {
			if taken[m.tests], failures[i] = t.baseline(ctx, m.tests); failures[i] != nil {
				trees <- t
				continue
			}
		}
		usual := taken[m.tests]
		playing.Go(func() {
			failures[i] = t.play(ctx, m, usual)
			trees <- t
		})
	}
	playing.Wait()
	if err := errors.Join(context.Cause(ctx), errors.Join(failures...)); err != nil {
		return err
	}
	fmt.Printf("%d mutations, each caught by a test; %d of them in this run.\n", len(mutations), len(left))
	return nil
}

func say(took time.Duration, what, result string) {
	fmt.Printf("%-8s %s: %s\n", took.Round(100*time.Millisecond), what, result)
}
