// Package model makes of what was read of an engine what the report shows.
package model

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Report is what the page shows, in its order.
type Report struct {
	Mount, Environment string
	Since, Until       time.Time
	// Headline says in a sentence how things are, Troubles what requires action.
	Headline   string
	Troubles   []Trouble
	Figures    []Figure
	Ticks      []Tick
	Lanes      []Lane
	Secrets    []Standing
	Steps      []StepTimes
	Operations []Operation
	// Omitted is the number of older operations that are not listed.
	Omitted int
}

// Trouble is something that requires action.
type Trouble struct{ Subject, Text string }

// Figure is one number of the summary, with what it is and what to know about it.
type Figure struct{ Label, Value, Note string }

// maxOperations is how many operations are listed, the newest.
const maxOperations = 50

// NewReport makes the report of what was read at that time.
func NewReport(e *Engine, now time.Time) *Report {
	r := &Report{Mount: e.Mount, Environment: e.Environment, Since: e.Since, Until: now}
	for _, s := range e.Subjects {
		r.Troubles = append(r.Troubles, s.troubles()...)
		r.Secrets = append(r.Secrets, s.standings(now)...)
		r.Operations = append(r.Operations, s.operations()...)
	}
	slices.SortStableFunc(r.Secrets, func(a, b Standing) int { return cmp.Compare(b.State.rank(), a.State.rank()) })
	slices.SortStableFunc(r.Operations, func(a, b Operation) int { return b.Started.Compare(a.Started) })
	r.Steps = stepsOf(r.Operations)
	r.Figures = figures(e, r.Operations)
	r.Headline = headline(r)
	from := r.begin()
	r.Ticks = ticks(from, now)
	for _, s := range e.Subjects {
		r.Lanes = append(r.Lanes, s.lane(from, now))
	}
	r.Omitted = max(0, len(r.Operations)-maxOperations)
	r.Operations = r.Operations[:len(r.Operations)-r.Omitted]
	return r
}

// begin is where the timeline begins: with the first operation in the period, so
// that what is there has room.
func (r *Report) begin() time.Time {
	if len(r.Operations) == 0 {
		return r.Since
	}
	first := r.Operations[len(r.Operations)-1].Started
	lead := first.Add(-r.Until.Sub(first) / 40)
	if lead.Before(r.Since) {
		return r.Since
	}
	return lead
}

// troubles are what a person has to do about a subject.
func (s *Subject) troubles() []Trouble {
	var found []Trouble
	add := func(text string) { found = append(found, Trouble{s.title(), text}) }
	if s.Problem != "" {
		add("the history is not intact: " + s.Problem)
	}
	switch {
	case s.Status.Attention:
		advice := strings.TrimSuffix(cmp.Or(s.Status.Advice, "automatic rotation has stopped"), ".")
		add(advice + ". Last error: " + cmp.Or(s.Status.LastError, "see the history of the role"))
	case s.Status.Advice != "":
		add(s.Status.Advice)
	case s.Status.Overdue:
		add("overdue: the rotation planned for " + Moment(s.Status.Next) + " has not started")
	case s.Status.Failures > 0:
		add(fmt.Sprintf("%s in a row: %s", count(s.Status.Failures, "failed attempt"), s.Status.LastError))
	}
	return found
}

// title names a subject. Roles are what people think of first.
func (s *Subject) title() string {
	if s.Kind == "role" {
		return s.Name
	}
	return strings.TrimSpace(s.Kind + " " + s.Name)
}

// headline says how things are.
func headline(r *Report) string {
	within, judged := 0, 0
	for _, s := range r.Secrets {
		if s.State != byHand {
			judged++
		}
		if s.State == inPolicy || s.State == dueSoon {
			within++
		}
	}
	text := fmt.Sprintf("%d of %d secrets with a rotation policy comply with it", within, judged)
	switch {
	case len(r.Secrets) == 0:
		return "There are no secrets yet."
	case judged == 0:
		text = "No secret rotates automatically"
	case judged == 1 && within == 0:
		text = "The only secret with a rotation policy does not comply with it"
	case judged == 1:
		text = "The only secret with a rotation policy complies with it"
	case within == judged:
		text = fmt.Sprintf("All %d secrets with a rotation policy comply with it", judged)
	}
	return text + need(len(r.Troubles))
}

func need(things int) string {
	switch things {
	case 0:
		return ". No action required."
	case 1:
		return ". One thing requires action."
	}
	return fmt.Sprintf(". %d things require action.", things)
}

// figures are the summary.
func figures(e *Engine, operations []Operation) []Figure {
	var took []time.Duration
	completed, ended, reversed, manual, scheduled := 0, 0, 0, 0, 0
	for _, op := range operations {
		switch op.Kind {
		case rotation.KindRotate:
			ended++
			if op.Trigger == rotation.TriggerManual {
				manual++
			} else {
				scheduled++
			}
			if op.Outcome == rotation.OutcomeCompleted {
				took = append(took, op.Duration)
			}
			if op.Outcome == rotation.OutcomeCompleted && !op.Reversed {
				completed++
			}
		case rotation.KindRollback:
			if op.Outcome == rotation.OutcomeCompleted {
				reversed++
			}
		}
	}
	whole, entries, roles, connections := 0, 0, 0, 0
	for _, s := range e.Subjects {
		entries += s.Kept
		if s.Problem == "" {
			whole++
		}
		switch s.Kind {
		case "role":
			roles++
		case "connection":
			connections++
		}
	}
	return []Figure{
		{"Roles", fmt.Sprint(roles), "and " + count(connections, "connection")},
		{"Rotations", fmt.Sprint(ended), fmt.Sprintf("%d scheduled, %d manual", scheduled, manual)},
		{"Succeeded", percentage(completed, ended), fmt.Sprintf("%d of %s", completed, count(ended, "rotation"))},
		{"Rollbacks", fmt.Sprint(reversed), "manual and automatic"},
		{"Median time", quantile(took, 50), "95 % within " + quantile(took, 95)},
		{"Histories intact", fmt.Sprintf("%d of %d", whole, len(e.Subjects)), count(entries, "entry") + " checked"},
	}
}
