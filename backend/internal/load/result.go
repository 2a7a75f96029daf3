package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// result is what a run has shown.
type result struct {
	scenario
	samples []sample
	marks   []*mark
	delays  []time.Duration // from the answer of a rotation to its use everywhere
	refused []string        // what the logs say of logins
}

// mark is something that happened, from when to when.
type mark struct {
	what       string
	number     int // of a rotation, from 1
	begin, end time.Duration
}

// phase says when a request was sent: before the first rotation, while one was
// under way or being taken over, or after the last.
func (r *result) phase(from, to time.Duration) []sample {
	var found []sample
	for _, s := range r.samples {
		if s.at >= from && s.at < to {
			found = append(found, s)
		}
	}
	return found
}

func (r *result) phases() (before, during, after []sample) {
	if len(r.marks) == 0 {
		return r.samples, nil, nil
	}
	first, last := r.marks[0].begin, r.marks[len(r.marks)-1].end
	return r.phase(0, first), r.phase(first, last), r.phase(last, 1<<62)
}

// causes returns the first few different errors, and refused logins.
func (r *result) causes() []string {
	var found []string
	for _, s := range r.samples {
		if s.err != nil && len(found) < 3 && !slices.Contains(found, s.err.Error()) {
			found = append(found, s.err.Error())
		}
	}
	return append(found, r.refused[:min(2, len(r.refused))]...)
}

// percentiles returns the median and the 99th percentile of latencies.
func percentiles(samples []sample) (p50, p99 time.Duration) {
	if len(samples) == 0 {
		return 0, 0
	}
	latencies := make([]time.Duration, len(samples))
	for i, s := range samples {
		latencies[i] = s.latency
	}
	slices.Sort(latencies)
	return latencies[len(latencies)/2], latencies[len(latencies)*99/100]
}

// tables are the places in the report, each with the runs that it has.
var tables = []struct {
	name  string
	has   func(scenario) bool
	write func([]*result) string
}{
	{"load", func(sc scenario) bool { return !sc.failover }, table},
	{"load-failover", func(sc scenario) bool { return sc.failover }, failoverTable},
}

// table is the report of runs, in markdown.
func table(results []*result) string {
	var out strings.Builder
	out.WriteString("| run | rotations | requests | failed | refused logins | latency before the rotations: median, p99 | during | after | until all instances use the new values: median, longest |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		before, during, after := r.phases()
		median, longest := spread(r.delays)
		fmt.Fprintf(&out, "| %s | %d | %d | **%d** | **%d** | %s | %s | %s | %s, %s |\n", r.title, len(r.delays), len(r.samples),
			countFailed(r.samples), len(r.refused), show(before), show(during), show(after), brief(median), brief(longest))
	}
	return out.String()
}

// failoverTable is the report of runs in which PostgreSQL fails over, in markdown.
func failoverTable(results []*result) string {
	var out strings.Builder
	out.WriteString("| run | rotations | requests, per second | failed during the failover | failed at other times | refused logins | the failover took | latency before: median, p99 | during the rotations | after | until all instances use the new values: median, longest |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		before, during, after := r.phases()
		away, others := r.failures()
		used := "–"
		if len(r.delays) > 0 {
			median, longest := spread(r.delays)
			used = brief(median) + ", " + brief(longest)
		}
		fmt.Fprintf(&out, "| %s | %d | %d, %d | **%d** | **%d** | **%d** | %s | %s | %s | %s | %s |\n", r.title, len(r.delays), len(r.samples), r.rate,
			len(away), len(others), len(r.refused), brief(r.outage()), show(before), show(during), show(after), used)
	}
	return out.String()
}

func show(samples []sample) string {
	p50, p99 := percentiles(samples)
	return brief(p50) + ", " + brief(p99)
}

func spread(delays []time.Duration) (median, longest time.Duration) {
	if len(delays) == 0 {
		return 0, 0
	}
	sorted := slices.Sorted(slices.Values(delays))
	return sorted[len(sorted)/2], sorted[len(sorted)-1]
}

// brief shows a duration with the digits that mean something.
func brief(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
