package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// clients is how many connections send requests at the same time.
const clients = 8

// turn is how long one side is measured before it is the other's turn.
const turn = 2 * time.Second

// work is what is measured; worker tells the connections apart.
type work func(ctx context.Context, worker int) error

// rate returns how often per second work is done by all clients together, and how
// often it was done.
func rate(ctx context.Context, do work) (perSecond float64, times int, err error) {
	began, counts := time.Now(), [clients]int{}
	err = parallel(0, clients, func(i int) error {
		for time.Since(began) < turn {
			if err := do(ctx, i); err != nil {
				return err
			}
			counts[i]++
		}
		return nil
	})
	elapsed := time.Since(began).Seconds()
	for _, n := range counts {
		times += n
	}
	return float64(times) / elapsed, times, err
}

// parallel does numbered work, as many at a time as there are clients.
func parallel(from, to int, do func(i int) error) error {
	var working sync.WaitGroup
	errs, next := make([]error, clients), atomic.Int64{}
	next.Store(int64(from))
	for c := range clients {
		working.Go(func() {
			for errs[c] == nil {
				i := int(next.Add(1)) - 1
				if i >= to {
					return
				}
				errs[c] = do(i)
			}
		})
	}
	working.Wait()
	return errors.Join(errs...)
}

// median returns how many milliseconds work takes, done n times one after the other.
func median(ctx context.Context, n int, do work) (float64, error) {
	durations := make([]float64, n)
	for i := range durations {
		began := time.Now()
		if err := do(ctx, 0); err != nil {
			return 0, err
		}
		durations[i] = milliseconds(time.Since(began))
	}
	return middle(durations), nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// figure is one thing that is measured.
type figure struct {
	name string
	// of is the world in which it is measured; nil if that is the one that compares.
	of *world
	// prepare and finish are done before and after it; nil if there is nothing to do.
	prepare, finish func(ctx context.Context) error
	// measure returns the value once, and how often the work was done for it.
	measure func(ctx context.Context) (value float64, times int, err error)
}

// rateOf is the figure of a rate.
func rateOf(name string, do work) figure {
	return figure{name: name, measure: func(ctx context.Context) (float64, int, error) { return rate(ctx, do) }}
}

// durationOf is the figure of how long work takes, done n times in a turn.
func durationOf(name string, n int, do work) figure {
	return figure{name: name, measure: func(ctx context.Context) (float64, int, error) {
		value, err := median(ctx, n, do)
		return value, n, err
	}}
}

// series is what was measured of a figure, in each round.
type series struct {
	name   string
	values []float64
	// used is the processor time of doing the work once.
	used []usage
}

// compare measures figures in turns. Each round begins with another one, so that
// none always follows the same.
func (w *world) compare(ctx context.Context, rounds int, figures ...figure) ([]series, error) {
	all := make([]series, len(figures))
	for round := range rounds {
		for turn := range figures {
			i := (round + turn) % len(figures)
			value, used, err := w.once(ctx, figures[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", figures[i].name, err)
			}
			say("round %d: %s: %s; processor time of one, as in the table: %.2f ms", round+1, figures[i].name, brief(value), used)
			all[i].name = figures[i].name
			all[i].values, all[i].used = append(all[i].values, value), append(all[i].used, used)
		}
	}
	w.compared = append(w.compared, all...)
	return all, nil
}

// once measures a figure once, and returns what doing its work once used.
func (w *world) once(ctx context.Context, f figure) (value float64, used usage, err error) {
	if f.prepare != nil {
		if err := f.prepare(ctx); err != nil {
			return 0, used, err
		}
	}
	measured := cmp.Or(f.of, w)
	before := measured.usage()
	value, times, err := f.measure(ctx)
	if err != nil {
		return 0, used, err
	}
	used = measured.usage().since(before, times)
	if f.finish != nil {
		err = f.finish(ctx)
	}
	return value, used, err
}

// ratios divides the values of each round.
func ratios(ours, theirs []float64) []float64 {
	quotients := make([]float64, len(ours))
	for i := range ours {
		quotients[i] = ours[i] / theirs[i]
	}
	return quotients
}

// middle returns the median of values.
func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// spread says from where to where values go.
func spread(values []float64) string {
	return fmt.Sprintf("%.2f–%.2f", slices.Min(values), slices.Max(values))
}
