package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// surroundings are what rotations have around them here: the destinations that get
// copies of the role's values, and then its checks, which may depend on those. They
// implement rotation.Surroundings.
type surroundings struct{ b *backend }

// What the names of tasks begin with, and the stages they are done in.
const (
	checkTask  = "check/"
	checkStage = 1
)

// Plan implements rotation.Surroundings. An emergency is not kept waiting by an
// application that is sick because of it: before a rollback and before a rotation
// that revokes, nothing is asked.
func (s surroundings) Plan(ctx context.Context, r *rotation.Role, op rotation.Operation) ([]rotation.Task, error) {
	if op.Kind != rotation.KindRotate && op.Kind != rotation.KindRollback || roles.IsConnection(r) {
		return nil, nil
	}
	snapshot := r.Snapshot()
	urgent := op.Kind == rotation.KindRollback || op.RevokePrevious
	tasks, err := s.b.destinations.Plan(ctx, r, urgent)
	if err != nil {
		return nil, err
	}
	if len(snapshot.Checks) == 0 {
		return tasks, nil
	}
	values, err := s.b.checkValues(snapshot)
	if err != nil {
		return nil, err
	}
	rule, err := s.b.outboundRule(ctx, outbound.ForChecks)
	if err != nil {
		return nil, err
	}
	for _, name := range checkNames(snapshot.State) {
		c, err := check.Decode(snapshot.Checks[name])
		if err != nil {
			return nil, err
		}
		if c.Phase == check.Before && urgent {
			continue
		}
		task, err := planCheck(ctx, rule, c, values, urgent)
		if task.Name, task.Stage = checkTask+name, checkStage; err != nil && c.OnFailure == check.Rollback {
			return nil, fmt.Errorf("check %s before the rotation: %w", name, err)
		}
		tasks = append(tasks, task)
	}
	return tasks, nil
}

// planCheck does what a check does before the operation, and makes its task. What the rule
// refuses would fail after the cut-over, so unless it is urgent that is an error
// before it.
func planCheck(ctx context.Context, rule outbound.Rule, c check.Config, values map[string]string, urgent bool) (rotation.Task, error) {
	var err error
	if !urgent {
		err = c.Allowed(rule)
	}
	if c.Phase == check.Before {
		task := rotation.Task{Done: true, Detail: "as expected before the rotation"}
		if err == nil {
			err = c.Insist(ctx, rule, values)
		}
		if err != nil {
			task.Failed, task.Detail = true, "before the rotation: "+err.Error()
		}
		return task, err
	}
	task, watch := rotation.Task{Required: c.OnFailure == check.Rollback}, check.Watch{}
	if err == nil && c.Samples > 0 && !urgent {
		watch.Baseline, err = c.Measure(ctx, rule, values)
	}
	return task, errors.Join(err, keepWatch(&task, watch))
}

// Do implements rotation.Surroundings.
func (s surroundings) Do(ctx context.Context, r *rotation.Role, t rotation.Task) rotation.Task {
	if name, ok := t.Destination(); ok {
		return s.b.destinations.Attempt(ctx, r, name, t)
	}
	if err := s.look(ctx, r, &t); err != nil {
		t.Done, t.Dropped, t.Detail = true, true, err.Error()
	}
	return t
}

// look does the next request of a check. An error says that there is no check any
// more that could fail.
func (s surroundings) look(ctx context.Context, r *rotation.Role, t *rotation.Task) error {
	snapshot, now := r.Snapshot(), s.b.now()
	raw, ok := snapshot.Checks[strings.TrimPrefix(t.Name, checkTask)]
	if !ok {
		return errors.New("deleted meanwhile")
	}
	var watch check.Watch
	c, err := check.Decode(raw)
	if err == nil {
		err = json.Unmarshal(t.Data, &watch)
	}
	values, valuesErr := s.b.checkValues(snapshot)
	rule, ruleErr := s.b.outboundRule(ctx, outbound.ForChecks)
	if err := errors.Join(err, valuesErr, ruleErr); err != nil {
		return err
	}
	if watch.Until.IsZero() {
		watch.Until = now.Add(c.Delay + c.WatchPeriod)
		if c.Delay > 0 {
			t.Next = now.Add(c.Delay)
			return keepWatch(t, watch)
		}
	}
	verdict := c.Look(ctx, rule, &watch, now, values)
	t.Detail = c.Tell(&watch)
	t.Done, t.Failed = verdict != check.Open, verdict == check.Sick
	t.Next = now.Add(c.Interval)
	return keepWatch(t, watch)
}

func keepWatch(t *rotation.Task, w check.Watch) (err error) {
	t.Data, err = json.Marshal(w)
	return err
}

// checkNames lists the checks of a role in alphabetical order.
func checkNames(s *rotation.State) []string {
	names := make([]string, 0, len(s.Checks))
	for name := range s.Checks {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// checkValues are what the placeholders of a role's checks stand for: fieldValues,
// and for each JWT key a token signed with it.
func (b *backend) checkValues(s *rotation.Snapshot) (map[string]string, error) {
	values, err := b.fieldValues(s.State)
	if err != nil {
		return nil, err
	}
	for name, stored := range s.Secrets {
		if stored.Current == nil || stored.Type != jwtType {
			continue
		}
		if values[name+"_token"], err = b.testToken(s, stored); err != nil {
			return nil, fmt.Errorf("sign a token with secret %s: %w", name, err)
		}
	}
	return values, nil
}

// fieldValues are the fields of creds, of the current stage.
func (b *backend) fieldValues(s *rotation.State) (map[string]string, error) {
	values := map[string]string{}
	for name, stored := range s.Secrets {
		if stored.Current == nil {
			continue
		}
		fields, err := b.types[stored.Type].Fields(*stored, stored.Current.Material)
		if err != nil {
			return nil, fmt.Errorf("read secret %s: %w", name, err)
		}
		for field, value := range fields {
			values[name+"_"+field] = value
		}
	}
	return values, nil
}

// testTokenLife is how long a token is valid that is only to try something.
const testTokenLife = time.Minute

// testToken is a token as an application would have it signed.
func (b *backend) testToken(snapshot *rotation.Snapshot, s *rotation.Secret) (string, error) {
	ring, err := keyring(snapshot, s)
	if err != nil {
		return "", err
	}
	overlap := snapshot.Terms.Overlap
	claims, _, err := ring.Config().Claims(secret.TokenRequest{
		Claims: map[string]any{}, TTL: min(testTokenLife, ring.Config().Lifetime(overlap)), Overlap: overlap, Now: b.now(),
	})
	if err != nil {
		return "", err
	}
	token, _, err := ring.Sign(claims)
	return token, err
}
