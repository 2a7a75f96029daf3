package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// result is what was measured of one Secret.
type result struct {
	operator, secret         string
	rotations, writes        int
	restarts, logins, tokens int
	interval                 time.Duration
	lags                     []time.Duration
}

// results are those of all Secrets, once compare has found nothing.
func (j *journey) results() (all []result, err error) {
	now, err := j.counts()
	for _, s := range j.operator.secrets {
		r := result{
			operator: j.operator.title, secret: s.name, rotations: j.operator.rotations,
			writes: now.writes[s.name] - j.before.writes[s.name], logins: j.logins, tokens: j.operator.tokens,
			interval: j.operator.interval, lags: j.lags[s.name],
		}
		if s.name == "smvm-api" {
			r.restarts = now.restarts - j.before.restarts
		}
		all = append(all, r)
	}
	return all, err
}

// table is the results in markdown.
func table(results []result) string {
	var text strings.Builder
	text.WriteString("| operator | Secret | read every | rotations | changes of the Secret | restarts of the Deployment | new values were there after | logins | tokens left in Vault |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		fmt.Fprintf(&text, "| %s | `%s` | %.0f s | %d | %d | %d | %.0f to %.0f s | %d | %d |\n", r.operator, r.secret, r.interval.Seconds(), r.rotations, r.writes, r.restarts,
			slices.Min(r.lags).Seconds(), slices.Max(r.lags).Seconds(), r.logins, r.tokens)
	}
	return text.String()
}
