package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/placeholder"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// maxRetire bounds how long a check may hold up what a role does next, such as a rotation
// in an emergency.
const maxRetire = 30 * time.Second

// validateRetire refuses what a check with phase=retire has no use for.
func (c Config) validateRetire(retired map[string]string) error {
	if c.Phase != Retire {
		return nil
	}
	def := Default()
	for _, field := range []struct {
		name   string
		is, to int
	}{
		{"delay", int(c.Delay), 0},
		{"watch_period", int(c.WatchPeriod), 0},
		{"samples", c.Samples, 0},
		{"success_threshold", c.SuccessThreshold, def.SuccessThreshold},
		{"concurrency", c.Concurrency, def.Concurrency},
		{"percentile", c.Percentile, def.Percentile},
		{"max_latency_increase", c.MaxLatencyIncrease, def.MaxLatencyIncrease},
	} {
		if field.is != field.to {
			return rotation.Invalid(field.name, "has no effect with phase=retire, where the engine asks a refresh_interval after the overlap, at most attempts times: leave it out, or write %s=%d", field.name, field.to)
		}
	}
	switch {
	case slices.ContainsFunc(c.ExpectedStatus, succeeds) && c.ExpectedBody == "":
		return rotation.Invalid("expected_status", "has a code from 200 to 299, which says that the application accepts the value: leave it out for 401 and 403, or set expected_body to the text by which it refuses")
	case c.OnFailure != Alert:
		return rotation.Invalid("on_failure", "is %s; with phase=retire it must be alert, because the overlap has ended by then and there is nothing to roll back to", c.OnFailure)
	case c.insists() > maxRetire:
		return rotation.Invalid("attempts", "with timeout and interval a check with phase=retire may take %s, and the limit is %s: lower one of them", rotation.Span(c.insists()), rotation.Span(maxRetire))
	case len(c.retires(retired)) == 0:
		return rotation.Invalid("headers", "with phase=retire, headers or body must send a previous value. Use one of these placeholders: %s", placeholders(retired))
	}
	return nil
}

// checkPlaceholders refuses what there is not, and previous values in another phase.
func (c Config) checkPlaceholders(field, text string, names []string, retired map[string]string) error {
	if c.Phase == Retire {
		names, retired = append(slices.Clone(names), slices.Sorted(maps.Keys(retired))...), nil
	}
	for _, name := range placeholder.Names(text) {
		if secret := retired[name]; secret != "" && !slices.Contains(names, name) {
			return rotation.Invalid(field, "{{%s}} stands for a previous value, which only a check with phase=retire may send. Write phase=retire, or {{%s%s}} for the current value",
				name, secret, strings.TrimPrefix(name, secret+"_previous"))
		}
	}
	if err := placeholder.Check(text, names); err != nil {
		return rotation.Invalid(field, "%v", err)
	}
	return nil
}

// placeholders lists names as they are written; a hint if there are none.
func placeholders(retired map[string]string) string {
	if len(retired) == 0 {
		return "none, because the role has no secret of type api_key (without hash_only) or jwt"
	}
	names := slices.Sorted(maps.Keys(retired))
	for i, name := range names {
		names[i] = "{{" + name + "}}"
	}
	return strings.Join(names, ", ")
}

// sent are the texts of the request that may have placeholders.
func (c Config) sent() string { return strings.Join(append(slices.Clone(c.Headers), c.Body), "\n") }

// retires lists the secrets whose previous values the request sends.
func (c Config) retires(retired map[string]string) []string {
	var secrets []string
	for _, name := range placeholder.Names(c.sent()) {
		if secret := retired[name]; secret != "" {
			secrets = append(secrets, secret)
		}
	}
	slices.Sort(secrets)
	return slices.Compact(secrets)
}

// Retirement returns a task for each check that asks the application to refuse previous
// values of these secrets. What a check asks for has to be retired together: beside a
// value that is valid, a refusal shows nothing.
func (k *Checks) Retirement(r *rotation.Role, secrets []string) []rotation.Task {
	s, tasks := r.Snapshot(), []rotation.Task(nil)
	retired := k.ports.RetiredNames(s.State)
	for _, name := range Names(s.State) {
		c, err := Decode(s.Checks[name])
		if err != nil || c.Phase != Retire {
			continue // what cannot be read asks for nothing
		}
		named := c.retires(retired)
		others := slices.DeleteFunc(slices.Clone(named), func(secret string) bool { return slices.Contains(secrets, secret) })
		about := slices.DeleteFunc(named, func(secret string) bool { return slices.Contains(others, secret) })
		if len(about) == 0 {
			continue
		}
		t := rotation.Task{Name: taskPrefix + name, Secrets: about}
		if len(others) > 0 {
			t = unasked(t, fmt.Errorf("not asked, because it also sends the previous value of %s, which is not retired at the same time", strings.Join(others, ", ")))
		}
		tasks = append(tasks, t)
	}
	return tasks
}

// unasked ends a task of a check that cannot ask.
func unasked(t rotation.Task, why error) rotation.Task {
	t.Done, t.Dropped, t.Finding, t.Detail = true, true, rotation.FoundNothing, why.Error()
	return t
}

// refusal asks the application to refuse the retired values that a task is about.
func (k *Checks) refusal(ctx context.Context, r *rotation.Role, t rotation.Task) rotation.Task {
	snapshot := r.Snapshot()
	c, rule, err := k.load(ctx, snapshot, t)
	if err != nil {
		return unasked(t, err)
	}
	values, err := k.ports.Retired(snapshot, t.Secrets)
	if err == nil {
		err = placeholder.Check(c.sent(), slices.Collect(maps.Keys(values)))
	}
	if err != nil {
		return unasked(t, err)
	}
	t.Done = true
	t.Finding, t.Detail = c.Refusal(ctx, rule, values)
	t.Failed = t.Finding != rotation.FoundRefused
	return t
}

// load reads the check of a task, and where requests may go now.
func (k *Checks) load(ctx context.Context, s *rotation.Snapshot, t rotation.Task) (Config, outbound.Rule, error) {
	raw, ok := s.Checks[strings.TrimPrefix(t.Name, taskPrefix)]
	if !ok {
		return Config{}, outbound.Rule{}, errors.New("deleted meanwhile")
	}
	c, err := Decode(raw)
	rule, ruleErr := k.ports.Rule(ctx)
	return c, rule, errors.Join(err, ruleErr)
}

// convincing is how many refusals in a row show that an application refuses what it has
// accepted before: behind its address there may be instances that do, and one that does not.
const convincing = 2

// Refusal asks until the answer is as expected, at most Attempts times, and says what was
// found and which answer shows it. A success that is not expected means that the values
// are accepted; then the last answers have to be refusals. Any other answer shows nothing.
func (c Config) Refusal(ctx context.Context, rule outbound.Rule, values map[string]string) (found rotation.Finding, detail string) {
	client, err := c.client(rule)
	if err != nil {
		return rotation.FoundNothing, err.Error()
	}
	defer client.CloseIdleConnections()
	found = rotation.FoundNothing
	refusals, refused := 0, 0 // how many since the application accepted, and the status of the last
	for i := range c.Attempts {
		if i > 0 && !wait(ctx, c.Interval) {
			break
		}
		status, err := c.answer(ctx, client, values)
		switch {
		case err == nil && found == rotation.FoundNothing:
			return rotation.FoundRefused, fmt.Sprintf("status %d", status)
		case err == nil:
			refusals, refused = refusals+1, status
		case succeeds(status):
			found, detail, refusals = rotation.FoundAccepted, fmt.Sprintf("status %d", status), 0
		case found == rotation.FoundNothing:
			detail = err.Error()
		default:
			refusals = 0
		}
	}
	if refusals >= convincing {
		return rotation.FoundRefused, fmt.Sprintf("status %d, after %s", refused, detail)
	}
	return found, detail
}
