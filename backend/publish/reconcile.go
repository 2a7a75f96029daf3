package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// visit is one attempt to have a destination hold what a role has.
type visit struct {
	*Destinations
	p      key
	role   *rotation.Role
	config *destination.Config
	rule   outbound.Rule
	before attempted
	wanted destination.Copy
	// apart says that no rotation waits for it, so what it finds has a record of its own.
	apart bool
}

// reconcile makes one copy what it should be. There is one attempt for each copy at a
// time, so that of two versions the later one comes last, and stays what is known.
func (d *Destinations) reconcile(ctx context.Context, p key, r *rotation.Role, config *destination.Config, apart bool) error {
	turn, _ := d.turns.LoadOrStore(p, &sync.Mutex{})
	turn.(*sync.Mutex).Lock()
	defer turn.(*sync.Mutex).Unlock()
	v := &visit{Destinations: d, p: p, role: r, config: config, apart: apart}
	err := v.attempt(ctx)
	if apart || err == nil { // else the task of the rotation says when to try again
		d.plan(p, err)
	}
	return err
}

// attempt is reconcile for who has the turn.
func (v *visit) attempt(ctx context.Context) (err error) {
	if v.rule, err = v.ports.Rule(ctx); err != nil {
		return err
	}
	v.rule = v.rule.For(v.config.Checked)
	if v.before, err = v.of(ctx, v.p); err != nil {
		return err
	}
	v.wanted, err = v.copyOf(v.role, v.config)
	switch {
	case err != nil:
		v.wanted.Stamp.Version = v.role.Snapshot().Version
		err = v.failed(ctx, err)
	case v.apart && v.before.ID == v.wanted.ID && (v.before.State == InSync || v.before.State == Drifted):
		return v.compare(ctx)
	default:
		err = v.publish(ctx)
	}
	if v.apart {
		return v.recordResult(ctx, err)
	}
	return err
}

// publish makes the destination hold the copy, and notes how that went.
func (v *visit) publish(ctx context.Context) error {
	begun := v.status(Pending, v.before.Error)
	if v.before.State == Failed || v.before.State == Drifted {
		begun.State = v.before.State
	}
	if err := v.save(ctx, v.p, begun); err != nil {
		return err
	}
	err := v.ports.Failpoint(ctx, "copy-"+v.role.Name+".publish", func() error {
		bounded, cancel := context.WithTimeout(ctx, v.config.Timeout)
		defer cancel()
		return v.config.Target.Publish(bounded, v.rule, v.wanted)
	})
	if err != nil {
		return v.failed(ctx, err)
	}
	return v.save(ctx, v.p, v.status(InSync, ""))
}

// status is that of the copy as it is wanted now.
func (v *visit) status(state, problem string) Status {
	return Status{State: state, ID: v.wanted.ID, Version: v.wanted.Stamp.Version, Error: problem}
}

// failed notes an attempt that failed, and returns why.
func (v *visit) failed(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := strings.ReplaceAll(cause.Error(), rotation.ErrInvalid.Error()+": ", "")
	status := Status{State: Failed, Version: v.wanted.Stamp.Version, Error: text}
	if v.before.State == Drifted {
		status.State = Drifted
	}
	return errors.Join(cause, v.save(ctx, v.p, status))
}

// compare looks whether the destination still holds the copy.
func (v *visit) compare(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, v.config.Timeout)
	defer cancel()
	differences, err := v.config.Target.Compare(bounded, v.rule, v.wanted)
	switch {
	case err != nil && !errors.Is(err, destination.ErrNoReading):
		return err
	case len(differences) > 0:
		return v.drifted(ctx, v.status(Drifted, strings.Join(differences, "; ")))
	case v.before.State == Drifted:
		err = v.record(ctx, rotation.FoundRestored, v.config.Target.Where()+" holds what it should")
	default:
		err = nil
	}
	return errors.Join(err, v.save(ctx, v.p, v.status(InSync, "")))
}

// drifted records that the destination holds something else, once, and then repairs it.
func (v *visit) drifted(ctx context.Context, found Status) error {
	if v.before.State != Drifted {
		if err := v.record(ctx, rotation.FoundDrifted, found.Error); err != nil {
			return err
		}
	}
	if err := v.save(ctx, v.p, found); err != nil || v.config.OnDrift == destination.Report {
		return err
	}
	v.before.Status = found
	if err := v.publish(ctx); err != nil {
		return err
	}
	return v.record(ctx, rotation.FoundRestored, fmt.Sprintf("version %d was published to %s again", found.Version, v.config.Target.Where()))
}

// recordResult records that the copy was published, or the first of the failures in a
// row, which it returns.
func (v *visit) recordResult(ctx context.Context, err error) error {
	found, detail := rotation.FoundUpdated, fmt.Sprintf("version %d is at %s", v.wanted.Stamp.Version, v.config.Target.Where())
	switch {
	case err != nil && (v.before.failures > 0 || ctx.Err() != nil):
		return err
	case err != nil:
		found, detail = rotation.FoundFailing, err.Error()
	case v.before.State == Failed || v.before.State == Drifted:
		found = rotation.FoundRestored
	}
	return errors.Join(err, v.record(ctx, found, detail))
}

// record adds to the history of the role what was found or done at the destination
// apart from any rotation.
func (v *visit) record(ctx context.Context, found rotation.Finding, detail string) error {
	rec := &rotation.Record{Operation: v.ports.NewOperation(rotation.KindPublish, rotation.TriggerSchedule), Outcome: rotation.OutcomeCompleted}
	t := rotation.Task{Name: rotation.DestinationTask + v.p.destination, Done: true, Finding: found, Detail: found.Explain(detail)}
	t.Failed = found == rotation.FoundDrifted || found == rotation.FoundFailing
	rec.Tasks, rec.Secrets, rec.Results = []rotation.Task{t}, []string{}, []rotation.SecretResult{}
	rec.Issues = []string{t.Name + ": " + t.Detail}
	if t.Failed {
		rec.Outcome = rotation.OutcomeFailed
	}
	return v.role.Note(ctx, rec)
}
