package check

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
)

// Watch is what a check has seen so far. It is stored between two requests.
type Watch struct {
	// Until is the end of the watch.
	Until time.Time `json:"until"`
	// Passed and Failed count requests, InARow the latest failed ones.
	Passed int `json:"passed,omitempty"`
	Failed int `json:"failed,omitempty"`
	InARow int `json:"in_a_row,omitempty"`
	// Last says why the latest failed one did.
	Last string `json:"last,omitempty"`
	// Baseline is the latency before the rotation; zero if none was measured.
	Baseline time.Duration `json:"baseline_ns,omitempty"`
	// Latency is the same after it.
	Latency time.Duration `json:"latency_ns,omitempty"`
}

// Latencies returns the latencies before and after a rotation that a stored watch has
// measured: zero for what it has not, and of what is no watch.
func Latencies(data json.RawMessage) (before, after time.Duration) {
	var w Watch
	if json.Unmarshal(data, &w) != nil {
		return 0, 0
	}
	return w.Baseline, w.Latency
}

// Verdict is what a watch has come to.
type Verdict int

// The verdicts.
const (
	Open Verdict = iota
	Healthy
	Sick
)

// Look asks once more and says what that comes to.
func (c Config) Look(ctx context.Context, rule outbound.Rule, w *Watch, now time.Time, values map[string]string) Verdict {
	if err := c.Probe(ctx, rule, values); err != nil {
		w.Failed, w.InARow, w.Last = w.Failed+1, w.InARow+1, err.Error()
	} else {
		w.Passed, w.InARow = w.Passed+1, 0
	}
	switch {
	case ctx.Err() != nil || w.InARow > 0 && w.InARow < c.Attempts && (w.Passed == 0 || now.Before(w.Until)):
		return Open
	case w.InARow >= c.Attempts:
		return Sick
	case now.Before(w.Until):
		return Open
	case c.WatchPeriod > 0 && 100*w.Passed < c.SuccessThreshold*(w.Passed+w.Failed):
		return Sick
	}
	return c.compare(ctx, rule, w, values)
}

// compare measures as before the rotation.
func (c Config) compare(ctx context.Context, rule outbound.Rule, w *Watch, values map[string]string) Verdict {
	if c.Samples == 0 || w.Baseline == 0 {
		return Healthy
	}
	latency, err := c.Measure(ctx, rule, values)
	switch {
	case ctx.Err() != nil:
		return Open
	case err != nil:
		w.Last = err.Error()
		return Sick
	}
	w.Latency = latency
	if 100*latency > time.Duration(100+c.MaxLatencyIncrease)*w.Baseline {
		return Sick
	}
	return Healthy
}

// Tell says in a line what has been seen.
func (c Config) Tell(w *Watch) string {
	text := fmt.Sprintf("%d of %d requests as expected", w.Passed, w.Passed+w.Failed)
	if w.Last != "" {
		text += "; the latest failure: " + w.Last
	}
	if w.Latency > 0 {
		text += fmt.Sprintf("; percentile %d of the latency %s, before the rotation %s", c.Percentile, round(w.Latency), round(w.Baseline))
	}
	return text
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// maxMeasure bounds how long the measurement may take.
const maxMeasure = time.Minute

// Measure makes Samples requests, Concurrency at a time, and returns the
// configured percentile of their latencies.
func (c Config) Measure(ctx context.Context, rule outbound.Rule, values map[string]string) (time.Duration, error) {
	client, err := c.client(rule)
	if err != nil {
		return 0, err
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, maxMeasure)
	defer cancel()
	latencies := make([]time.Duration, c.Samples)
	failures := make([]error, c.Samples)
	next := make(chan int)
	var asking sync.WaitGroup
	for range min(c.Concurrency, c.Samples) {
		asking.Go(func() {
			for i := range next {
				began := time.Now()
				failures[i] = c.ask(ctx, client, values)
				latencies[i] = time.Since(began)
			}
		})
	}
	for i := range c.Samples {
		next <- i
	}
	close(next)
	asking.Wait()
	if err := cmp.Or(failures...); err != nil {
		return 0, fmt.Errorf("a measured request failed: %w", err)
	}
	slices.Sort(latencies)
	return latencies[(c.Samples*c.Percentile+99)/100-1], nil
}
