package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxTold bounds how many failed requests of a run are told one by one.
const maxTold = 20

// failures splits the requests that failed: those that were under way while PostgreSQL
// failed over, and all others.
func (r *result) failures() (away, others []sample) {
	for _, s := range r.samples {
		switch {
		case s.err == nil:
		case r.failingOver(s):
			away = append(away, s)
		default:
			others = append(others, s)
		}
	}
	return away, others
}

func (r *result) failingOver(s sample) bool {
	for _, m := range r.marks {
		if m.what == failedOver && m.meets(s) {
			return true
		}
	}
	return false
}

// meets reports whether a request was under way meanwhile.
func (m *mark) meets(s sample) bool { return s.at <= m.end && s.at+s.latency >= m.begin }

// tellFailures says of the requests that failed how many there are of each kind and, of
// the first, which each was, when, and what happened just then.
func (r *result) tellFailures() {
	told, kinds := 0, map[string]int{}
	for _, s := range r.samples {
		if s.err == nil {
			continue
		}
		meanwhile := r.meanwhile(s)
		kinds[fmt.Sprintf("failed %s: %s", meanwhile, s.err)]++
		if told++; told <= maxTold {
			say("%s: %s, due at %s, failed after %s: %s; %s", r.name, s.what, brief(s.at), brief(s.latency), s.err, meanwhile)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		say("%s: %d %s", r.name, kinds[kind], kind)
	}
}

// meanwhile says what happened while a request was under way or, if nothing did, what
// was last.
func (r *result) meanwhile(s sample) string {
	var during []string
	last := "before anything happened"
	for _, m := range r.marks {
		switch {
		case m.meets(s):
			during = append(during, m.String())
		case m.end < s.at:
			last = "after " + m.String()
		}
	}
	if during != nil {
		return "during " + strings.Join(during, " and ")
	}
	return last
}

func (m *mark) String() string {
	text := m.what
	if m.number > 0 {
		text = fmt.Sprintf("%s %d", text, m.number)
	}
	return fmt.Sprintf("%s (%s to %s)", text, brief(m.begin), brief(m.end))
}

// outage returns how long it took from the death of the primary until all instances
// served again.
func (r *result) outage() (took time.Duration) {
	for _, m := range r.marks {
		if m.what == failedOver {
			took = m.end - m.begin
		}
	}
	return took
}
