package model

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Operation is a record, with what only the records around it tell.
type Operation struct {
	rotation.Record
	Subject  string
	Duration time.Duration
	// Reversed says that a check failed after the commit and the role was rolled back.
	Reversed bool
	// Notes are what people have added, oldest first.
	Notes []Operation
}

// operations are those of a subject in the period. A note stands with the record that it
// is about, and by itself only if the report does not have that.
func (s *Subject) operations() []Operation {
	reversed := map[string]bool{}
	for _, rec := range s.Records {
		if rec.Kind == rotation.KindRollback && rec.Outcome == rotation.OutcomeCompleted && rec.Follows != "" {
			reversed[rec.Follows] = true
		}
	}
	operations, at := make([]Operation, 0, len(s.Records)), map[string]int{}
	for _, rec := range s.Records {
		op := Operation{Record: rec, Subject: s.title(), Duration: time.Duration(rec.DurationMS) * time.Millisecond, Reversed: reversed[rec.ID]}
		if i, listed := at[rec.About()]; listed && rec.Note != nil {
			operations[i].Notes = append(operations[i].Notes, op)
			continue
		}
		at[rec.ID] = len(operations)
		operations = append(operations, op)
	}
	return operations
}

// Result says how an operation ended, in the words of the page.
func (op Operation) Result() string {
	if op.Reversed {
		return "completed, then rolled back"
	}
	return strings.ReplaceAll(string(op.Outcome), "_", " ")
}

// Class names the result for the style sheet.
func (op Operation) Class() string {
	switch {
	case op.Outcome == rotation.OutcomeFailed:
		return "bad"
	case op.Outcome == rotation.OutcomeRolledBack || op.Reversed:
		return "warn"
	}
	return "good"
}

// By says who did it.
func (op Operation) By() string {
	switch {
	case op.Actor.DisplayName != "":
		return rotation.SetApart(op.Actor.DisplayName)
	case op.Trigger == rotation.TriggerManual:
		return "unknown (token without display name)"
	}
	return "the engine (" + string(op.Trigger) + ")"
}

// Gist is why it was done, what went wrong, and what a deletion left behind.
func (op Operation) Gist() string {
	parts := []string{}
	if op.Reason != "" {
		parts = append(parts, op.Reason)
	}
	if op.Note != nil {
		parts = append(parts, op.Note.Text)
	}
	for _, c := range op.Changes {
		parts = append(parts, fmt.Sprintf("%s: %s → %s", c.Field, value(c.From), value(c.To)))
	}
	if op.Outcome != rotation.OutcomeCompleted || op.Pruned != nil || op.Kind == rotation.KindDelete {
		parts = append(parts, op.Issues...)
	}
	if len(parts) == 0 {
		return strings.Join(op.Secrets, ", ")
	}
	return strings.Join(parts, "; ")
}

// value writes a value of a configuration.
func value(v any) string {
	if v == nil {
		return "…"
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "…"
	}
	return string(text)
}

// StepTimes are how long one step took on one type of secret.
type StepTimes struct {
	Step, Type           string
	Count, Failed        int
	Median, P95, Longest string
	// MedianShare and P95Share are in percent of the longest 95th percentile.
	MedianShare, P95Share float64
}

// order is how the steps follow each other.
var order = []string{"create", "set", "test", "undo", "probe", "look", "retire", "terminate"}

// instant is what a step has to take once to be listed, unless it failed.
const instant = 5 * time.Millisecond

// stepsOf gathers the times of the steps of all operations.
func stepsOf(operations []Operation) []StepTimes {
	took, failed := map[[2]string][]time.Duration{}, map[[2]string]int{}
	for _, op := range operations {
		for _, r := range op.Results {
			for _, step := range r.Steps {
				of := [2]string{step.Name, r.Type}
				took[of] = append(took[of], time.Duration(step.DurationMS)*time.Millisecond)
				if !step.OK {
					failed[of]++
				}
			}
		}
	}
	var longest time.Duration
	for _, times := range took {
		slices.Sort(times)
		longest = max(longest, at(times, 95))
	}
	var found []StepTimes
	for of, times := range took {
		if times[len(times)-1] < instant && failed[of] == 0 {
			continue
		}
		share := func(d time.Duration) float64 { return 100 * float64(d) / float64(max(1, longest)) }
		found = append(found, StepTimes{
			Step: of[0], Type: of[1], Count: len(times), Failed: failed[of],
			Median: Span(at(times, 50)), P95: Span(at(times, 95)), Longest: Span(times[len(times)-1]),
			MedianShare: share(at(times, 50)), P95Share: share(at(times, 95)),
		})
	}
	slices.SortFunc(found, func(a, b StepTimes) int {
		if a.Type != b.Type {
			return strings.Compare(a.Type, b.Type)
		}
		return slices.Index(order, a.Step) - slices.Index(order, b.Step)
	})
	return found
}

// at is a percentile of times in ascending order.
func at(times []time.Duration, percentile int) time.Duration {
	return times[(len(times)*percentile+99)/100-1]
}

// quantile writes a percentile of times; a dash if there are none.
func quantile(times []time.Duration, percentile int) string {
	if len(times) == 0 {
		return "–"
	}
	slices.Sort(times)
	return Span(at(times, percentile))
}

func percentage(n, of int) string {
	if of == 0 {
		return "–"
	}
	return fmt.Sprintf("%.4g %%", math.Round(1000*float64(n)/float64(of))/10)
}
