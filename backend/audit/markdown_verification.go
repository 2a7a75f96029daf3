package audit

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// verification tells, under the procedure's four headings, how it was found out
// that the values work and that those from before do not any more.
func (s *Timeline) verification(d *paper, latencies Latencies) {
	s.functional(d)
	s.security(d)
	s.performance(d, latencies)
	s.integration(d)
}

// verdict is a heading's answer.
type verdict string

const (
	passed    verdict = "✅ passed"
	failed    verdict = "❌ failed"
	pending   verdict = "⏳ not ended"
	undecided verdict = "➖ not decided"
	// unproven is the verdict on a value that nobody has tried since it was retired.
	unproven verdict = "⚠️ not proven"
)

// worse returns the one of two verdicts that people have to know of.
func (v verdict) worse(other verdict) verdict {
	if v == failed || other == passed {
		return v
	}
	return other
}

// functional lists every step: each value was used for real before it became
// current.
func (s *Timeline) functional(d *paper) {
	v := passed
	for _, r := range s.Results {
		for _, step := range r.Steps {
			if !step.OK {
				v = failed
			}
		}
	}
	if len(s.Results) == 0 {
		v = "nothing was set"
	}
	d.line("- Functional testing: %s", v)
	for _, r := range s.Results {
		for _, step := range r.Steps {
			d.line("  - %s: %s: %s", r.Secret, step.Name, stepText(step))
		}
	}
}

func stepText(step rotation.Step) string {
	if step.Unproven != "" {
		return fmt.Sprintf("⚠️ done, %s (%d ms)", plain(step.Unproven), step.DurationMS)
	}
	if step.OK {
		return fmt.Sprintf("%s (%d ms)", passed, step.DurationMS)
	}
	return fmt.Sprintf("❌ %s (%d ms)", plain(step.Detail), step.DurationMS)
}

// security tells what became of the values that were replaced: at the end of the
// overlap their targets have to refuse them.
func (s *Timeline) security(d *paper) {
	v, lines := verdict("no value was replaced"), []string{}
	for _, r := range s.Results {
		if r.From == 0 || !replaces(s.Record) {
			continue
		}
		if end, how := s.end(r); len(lines) == 0 {
			v, lines = end, how
		} else {
			v, lines = v.worse(end), append(lines, how...)
		}
	}
	d.line("- Security testing: %s", v)
	for _, line := range lines {
		d.line("  - %s", line)
	}
}

// end tells how the life of a replaced value ended. A retirement that failed is
// tried again, so the last one counts.
func (s *Timeline) end(replaced rotation.SecretResult) (verdict, []string) {
	of := fmt.Sprintf("%s: version %d", replaced.Secret, replaced.From)
	v, lines := verdict(""), []string{}
	for _, rec := range s.later {
		for _, r := range rec.Results {
			if rec.Kind != rotation.KindRetire || r.Secret != replaced.Secret {
				continue
			}
			v = outcomeVerdict(rec.Outcome)
			for _, step := range r.Steps {
				if step.Unproven != "" {
					v = v.worse(unproven)
				}
				lines = append(lines, fmt.Sprintf("%s: %s: %s, at %s", of, step.Name, stepText(step), rec.Started.UTC().Format(time.RFC3339)))
			}
		}
	}
	switch {
	case v != "":
		return v, lines
	case s.replaced[replaced.Secret] != 0:
		return pending, []string{of + ": stays valid for the overlap; its end will be recorded"}
	case s.undone() != nil:
		return "ended by the rollback", []string{of + ": is current again"}
	}
	return "ended by another operation", []string{of + ": the overlap ended before its time"}
}

func outcomeVerdict(o rotation.Outcome) verdict {
	if o == rotation.OutcomeCompleted {
		return passed
	}
	return failed
}

// Latencies returns what a check has measured before and after an operation, by the
// data of its task: zero for what it has not.
type Latencies func(data json.RawMessage) (before, after time.Duration)

// performance tells the latencies that checks have measured.
func (s *Timeline) performance(d *paper, latencies Latencies) {
	var lines []string
	v := passed
	for _, t := range s.tasks() {
		before, after := latencies(t.Data)
		if before == 0 {
			continue
		}
		then := "not measured after it"
		if after > 0 {
			then = "after it " + after.Round(100*time.Microsecond).String()
		}
		lines = append(lines, fmt.Sprintf("%s: before the rotation %s, %s", t.Name, before.Round(100*time.Microsecond), then))
		v = v.worse(s.judge(t))
	}
	if len(lines) == 0 {
		v = "no check measures latencies"
	}
	d.line("- Performance testing: %s", v)
	for _, line := range lines {
		d.line("  - %s", plain(line))
	}
}

// integration tells what was asked of the world around: checks before and after
// the cut-over, with what they saw.
func (s *Timeline) integration(d *paper) {
	tasks, v := s.tasks(), passed
	for _, t := range tasks {
		v = v.worse(s.judge(t))
	}
	if len(tasks) == 0 {
		v = "nothing took part"
	}
	d.line("- Integration testing: %s", v)
	for _, t := range tasks {
		d.line("  - %s: %s: %s", plain(t.Name), s.judge(t), orText(plain(t.Detail), "nothing seen yet"))
	}
}

// tasks are what surrounded the operation, each as it was recorded last.
func (s *Timeline) tasks() []rotation.Task {
	tasks := s.Tasks
	for _, rec := range s.later {
		if rec.Kind == rotation.KindFollow && rec.Follows == s.ID {
			tasks = rec.Tasks
		}
	}
	return tasks
}

// judge says how a task ended. A required one that failed is not recorded as
// ended, but named as the reason of the rollback, which the engine then writes
// itself: what a person writes there is no verdict.
func (s *Timeline) judge(t rotation.Task) verdict {
	if undone := s.undone(); !t.Done && undone != nil {
		if undone.Trigger == rotation.TriggerCheck && strings.Contains(undone.Reason, t.Name+": ") {
			return failed
		}
		return "ended by the rollback"
	}
	switch {
	case t.Failed:
		return failed
	case t.Dropped:
		return undecided
	case t.Done:
		return passed
	case len(s.awaited) == 0:
		return "ended by another operation"
	}
	return pending
}
