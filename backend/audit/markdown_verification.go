package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// verification says, under the procedure's four headings, what proved that the new
// values work and that the replaced ones do not any more.
func (t *Timeline) verification(d *document, now *rotation.State, latencies Latencies) {
	t.functional(d)
	t.security(d, now)
	t.performance(d, latencies)
	t.integration(d)
}

// verdict is a heading's answer.
type verdict string

const (
	passed    verdict = "✅ passed"
	failed    verdict = "❌ failed"
	pending   verdict = "⏳ still running"
	undecided verdict = "➖ no result"
	// overlapping is the verdict on a replaced value whose overlap has not ended.
	overlapping verdict = "⏳ overlap not over yet"
	// unproven is the verdict on a value that nobody has tried since it was retired.
	unproven verdict = "⚠️ not proven"
)

// What a verdict adds when something came in between.
const (
	overtaken  = " (ended by another operation)"
	rolledBack = " (ended by the rollback)"
	// unsuccessful is for what was to follow an operation that has failed.
	unsuccessful = " (the operation failed before)"
)

// worse returns the more serious of two verdicts.
func (v verdict) worse(other verdict) verdict {
	if v == failed || other == passed {
		return v
	}
	return other
}

// functional lists every step: each value was used for real before it became
// current.
func (t *Timeline) functional(d *document) {
	v := passed
	for _, r := range t.Results {
		for _, step := range r.Steps {
			if !step.OK {
				v = failed
			}
		}
	}
	if len(t.Results) == 0 {
		v = "not applicable: no value was changed"
	}
	d.line("- Functional testing: %s", v)
	for _, r := range t.Results {
		for _, step := range r.Steps {
			d.line("  - %s: %s: %s", r.Secret, step.Name, stepText(step))
		}
	}
}

func stepText(step rotation.Step) string {
	if step.Unproven != "" {
		return fmt.Sprintf("⚠️ done, but the refusal of the old value is %s (%d ms)", plain(step.Unproven), step.DurationMS)
	}
	if step.OK {
		return fmt.Sprintf("%s (%d ms)", passed, step.DurationMS)
	}
	return fmt.Sprintf("❌ %s (%d ms)", plain(step.Detail), step.DurationMS)
}

// security says what became of the replaced values: at the end of the overlap their
// targets have to refuse them, and applications that verify keys.
func (t *Timeline) security(d *document, now *rotation.State) {
	v, lines := verdict("not applicable: no value was replaced"), []string{}
	for _, r := range t.Results {
		if r.From == 0 || !replaces(t.Record) {
			continue
		}
		if end, how := t.end(r, now); len(lines) == 0 {
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

// end says how the life of a replaced value ended. A failed retirement is tried again,
// so the last one counts.
func (t *Timeline) end(replaced rotation.SecretResult, now *rotation.State) (verdict, []string) {
	of := fmt.Sprintf("%s: version %d", replaced.Secret, replaced.From)
	answer := of + ", old secret invalidated: "
	v, invalidated, lines := verdict(""), "", []string{}
	for _, rec := range t.later {
		for _, r := range rec.Results {
			if rec.Kind != rotation.KindRetire || r.Secret != replaced.Secret {
				continue
			}
			v, invalidated = invalidation(rec, r)
			for _, step := range r.Steps {
				lines = append(lines, fmt.Sprintf("%s: %s: %s, at %s", of, step.Name, stepText(step), rec.Started.UTC().Format(time.RFC3339)))
			}
		}
	}
	switch {
	case v != "":
		return v, append(lines, answer+plain(invalidated))
	case t.replaced[replaced.Secret] != 0:
		return overlapping, []string{answer + "not shown yet: " + outlook(now, replaced)}
	case t.current(replaced.Secret):
		return undecided + rolledBack, []string{answer + "not applicable: current again, by the rollback"}
	}
	return undecided + overtaken, []string{answer + "not shown: another operation ended the overlap early"}
}

// current reports whether a rollback made the replaced value of that secret current
// again. A rollback may be of some of the secrets.
func (t *Timeline) current(secret string) bool {
	return slices.ContainsFunc(t.later, func(rec rotation.Record) bool {
		return rec.Kind == rotation.KindRollback && rec.Outcome == rotation.OutcomeCompleted && slices.Contains(rec.Secrets, secret)
	})
}

// Latencies reads, from the data of a task, the latencies that a check has measured
// before and after an operation: zero for what it has not.
type Latencies func(data json.RawMessage) (before, after time.Duration)

// performance lists the latencies that checks have measured.
func (t *Timeline) performance(d *document, latencies Latencies) {
	var lines []string
	v := passed
	for _, task := range t.tasks() {
		before, after := latencies(task.Data)
		if before == 0 {
			continue
		}
		then := "not measured"
		if after > 0 {
			then = after.Round(100 * time.Microsecond).String()
		}
		lines = append(lines, fmt.Sprintf("%s: latency before the rotation: %s, after: %s", task.Name, before.Round(100*time.Microsecond), then))
		v = v.worse(t.judge(task))
	}
	if len(lines) == 0 {
		v = "not applicable: no check measures latency"
	}
	d.line("- Performance testing: %s", v)
	for _, line := range lines {
		d.line("  - %s", plain(line))
	}
}

// integration lists the checks before and after the cut-over and the deliveries, with
// what they saw.
func (t *Timeline) integration(d *document) {
	tasks, v := t.tasks(), passed
	for _, task := range tasks {
		v = v.worse(t.judge(task))
	}
	if len(tasks) == 0 {
		v = "not applicable: no checks or destinations"
	}
	d.line("- Integration testing: %s", v)
	for _, task := range tasks {
		d.line("  - %s: %s: %s", plain(task.Name), t.judge(task), orText(plain(task.Detail), "not begun"))
	}
}

// tasks are the operation's checks and deliveries, each as it was recorded last.
func (t *Timeline) tasks() []rotation.Task {
	tasks := t.Tasks
	for _, rec := range t.later {
		if rec.Kind == rotation.KindPostCommit && rec.Follows == t.ID {
			tasks = rec.Tasks
		}
	}
	return tasks
}

// judge says how a task ended. A required one that failed is not recorded as
// ended, but named as the reason of the rollback, which the engine then writes
// itself: what a person writes there is no verdict.
func (t *Timeline) judge(task rotation.Task) verdict {
	if undone := t.undone(); !task.Done && undone != nil {
		if undone.Trigger == rotation.TriggerCheck && strings.Contains(undone.Reason, task.Name+": ") {
			return failed
		}
		return undecided + rolledBack
	}
	switch {
	case task.Failed:
		return failed
	case task.Dropped:
		return undecided
	case task.Done:
		return passed
	case t.Outcome != rotation.OutcomeCompleted:
		return undecided + unsuccessful
	case len(t.awaited) == 0:
		return undecided + overtaken
	}
	return pending
}
