package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// clients is how many connections send requests at the same time.
const clients = 8

// turn is how long one side is measured before it is the other's turn.
const turn = 2 * time.Second

// work is what is measured; worker tells the connections apart.
type work func(ctx context.Context, worker int) error

// rate returns how often per second work is done by all clients together.
func rate(ctx context.Context, do work) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began, counts, errs := time.Now(), make([]int, clients), make([]error, clients)
	var working sync.WaitGroup
	for i := range clients {
		working.Go(func() {
			for time.Since(began) < turn && errs[i] == nil {
				if errs[i] = do(ctx, i); errs[i] == nil {
					counts[i]++
				} else {
					cancel()
				}
			}
		})
	}
	working.Wait()
	elapsed, sum := time.Since(began).Seconds(), 0
	for i, n := range counts {
		if errs[i] != nil {
			return 0, errs[i]
		}
		sum += n
	}
	return float64(sum) / elapsed, nil
}

// median returns how long work takes, done n times one after the other.
func median(ctx context.Context, n int, do work) (time.Duration, error) {
	durations := make([]time.Duration, n)
	for i := range durations {
		began := time.Now()
		if err := do(ctx, 0); err != nil {
			return 0, err
		}
		durations[i] = time.Since(began)
	}
	slices.Sort(durations)
	return durations[n/2], nil
}

// figure is one thing that is measured: a function that gives its value once.
type figure func(ctx context.Context) (float64, error)

// rateOf is the figure of a rate.
func rateOf(do work) figure {
	return func(ctx context.Context) (float64, error) { return rate(ctx, do) }
}

// compare measures figures in turns and returns the values of each.
func compare(ctx context.Context, rounds int, figures ...figure) ([][]float64, error) {
	values := make([][]float64, len(figures))
	for range rounds {
		for i, measure := range figures {
			value, err := measure(ctx)
			if err != nil {
				return nil, err
			}
			values[i] = append(values[i], value)
		}
	}
	return values, nil
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
