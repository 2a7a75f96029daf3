package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// reconcile makes one copy what it should be, and leaves a record of it if it was not.
func (d *Destinations) reconcile(ctx context.Context, p key, r *rotation.Role, config *destination.Config) error {
	wanted, err := d.wanted(r, config)
	if err != nil {
		return d.recordFailure(ctx, p, r, d.failed(ctx, p, r.Snapshot().Version, err))
	}
	t, err := d.of(ctx, p)
	if err != nil {
		return err
	}
	if t.ID == wanted.ID && (t.State == InSync || t.State == Drifted) {
		return d.compare(ctx, p, r, config, wanted)
	}
	if err := d.publish(ctx, p, r, config); err != nil {
		return d.recordFailure(ctx, p, r, err)
	}
	found := rotation.FoundUpdated
	if t.State == Failed || t.State == Drifted {
		found = rotation.FoundRestored
	}
	return d.record(ctx, p, r, found, fmt.Sprintf("version %d is at %s", wanted.Stamp.Version, config.Target.Where()))
}

// compare looks whether a target still holds a copy.
func (d *Destinations) compare(ctx context.Context, p key, r *rotation.Role, config *destination.Config, wanted destination.Copy) error {
	bounded, cancel := context.WithTimeout(ctx, config.Timeout)
	defer cancel()
	rule, err := d.ports.Rule(ctx)
	if err != nil {
		return err
	}
	differences, err := config.Compare(bounded, rule, wanted)
	if err != nil && !errors.Is(err, destination.ErrNoReading) {
		return err
	}
	before, err := d.of(ctx, p)
	if err != nil {
		return err
	}
	held := Status{State: InSync, ID: wanted.ID, Version: wanted.Stamp.Version}
	switch {
	case len(differences) > 0:
		held.State, held.Error = Drifted, strings.Join(differences, "; ")
		err = d.drifted(ctx, p, r, config, before, held)
	case before.State == Drifted:
		err = errors.Join(d.record(ctx, p, r, rotation.FoundRestored, config.Target.Where()+" holds what it should"), d.save(ctx, p, held))
	default:
		err = d.save(ctx, p, held)
	}
	if err == nil {
		now := d.ports.Now()
		d.change(p, func(t *attempted) { t.next, t.failures = now.Add(compareEvery), 0 })
	}
	return err
}

// drifted records that a target holds something else, once, and then repairs it.
func (d *Destinations) drifted(ctx context.Context, p key, r *rotation.Role, config *destination.Config, before attempted, found Status) error {
	if before.State != Drifted {
		if err := d.record(ctx, p, r, rotation.FoundDrifted, found.Error); err != nil {
			return err
		}
	}
	if err := d.save(ctx, p, found); err != nil || config.OnDrift == destination.Report {
		return err
	}
	if err := d.publish(ctx, p, r, config); err != nil {
		return err
	}
	return d.record(ctx, p, r, rotation.FoundRestored, fmt.Sprintf("version %d was published to %s again", found.Version, config.Target.Where()))
}

// recordFailure records the first of the failures in a row, and returns it.
func (d *Destinations) recordFailure(ctx context.Context, p key, r *rotation.Role, cause error) error {
	t, err := d.of(ctx, p)
	if err != nil || t.failures > 0 || ctx.Err() != nil {
		return cause
	}
	return errors.Join(cause, d.record(ctx, p, r, rotation.FoundFailing, cause.Error()))
}

// record adds to the history of a role what was found or done at a destination
// apart from any rotation.
func (d *Destinations) record(ctx context.Context, p key, r *rotation.Role, found rotation.Finding, detail string) error {
	rec := &rotation.Record{Operation: d.ports.NewOperation(rotation.KindPublish, rotation.TriggerSchedule), Outcome: rotation.OutcomeCompleted}
	t := rotation.Task{Name: rotation.DestinationTask + p.destination, Done: true, Finding: found, Detail: found.Explain(detail)}
	t.Failed = found == rotation.FoundDrifted || found == rotation.FoundFailing
	rec.Tasks, rec.Secrets, rec.Results = []rotation.Task{t}, []string{}, []rotation.SecretResult{}
	rec.Issues = []string{t.Name + ": " + t.Detail}
	if t.Failed {
		rec.Outcome = rotation.OutcomeFailed
	}
	return r.Note(ctx, rec)
}
