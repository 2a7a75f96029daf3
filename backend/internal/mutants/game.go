package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// game plays mutations.
type game struct {
	*workshop
	opts      options
	mutations []mutation
	// taken is how long each set of tests takes when nothing is broken.
	taken map[string]time.Duration
}

// result is what came of a mutation.
type result struct {
	// caughtBy is the test that failed first, empty if all passed.
	caughtBy string
	took     time.Duration
	// err is why nothing is known: it does not compile, or no test ran.
	err error
}

// patience is how long tests may take, beyond five times what they take when
// nothing is broken, before a mutation counts as hanging.
const patience = 30 * time.Second

// baseline runs the tests on what is not broken: who fails then proves nothing.
func (g *game) baseline(ctx context.Context) error {
	g.taken = map[string]time.Duration{}
	for _, m := range g.mutations {
		if _, ok := g.taken[m.tests]; ok {
			continue
		}
		r := g.try(ctx, mutation{tests: m.tests}, 5*time.Minute)
		if r.err == nil && r.caughtBy != "" {
			r.err = fmt.Errorf("%s fails", r.caughtBy)
		}
		if r.err != nil {
			return fmt.Errorf("with nothing broken, go test %s: %w", m.tests, r.err)
		}
		g.taken[m.tests] = r.took
		g.say("%-8s go test %s, with nothing broken", r.took.Round(100*time.Millisecond), m.tests)
	}
	return nil
}

// play plays all mutations, some at a time.
func (g *game) play(ctx context.Context) []result {
	results := make([]result, len(g.mutations))
	turns := make(chan struct{}, max(g.opts.jobs, 1))
	var playing sync.WaitGroup
	for i, m := range g.mutations {
		turns <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		playing.Go(func() {
			defer func() { <-turns }()
			results[i] = g.try(ctx, m, patience+5*g.taken[m.tests])
			if ctx.Err() != nil {
				return // interrupted: it says nothing about the mutation
			}
			g.say("%-8s %s: %s", results[i].took.Round(100*time.Millisecond), m.name, results[i].verdict())
		})
	}
	playing.Wait()
	return results
}

// try builds and runs the tests of one mutation.
func (g *game) try(ctx context.Context, m mutation, timeout time.Duration) (r result) {
	began := time.Now()
	defer func() { r.took = time.Since(began) }()
	changed, err := m.apply(g.dir)
	if err != nil {
		return result{err: err}
	}
	words := strings.Fields(m.tests)
	binary, err := g.build(ctx, words[0], changed)
	if err != nil {
		return result{err: err}
	}
	defer func() { _ = os.Remove(binary) }() // they are large
	out, err := g.test(ctx, binary, words[0], words[1:], timeout)
	if g.opts.verbose && len(changed) > 0 {
		g.say("%s:\n%s", m.name, out)
	}
	return judge(out, err)
}

func (g *game) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "mutants: "+format+"\n", args...)
}
