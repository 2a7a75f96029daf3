//go:build failpoints

package backend

import (
	"context"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// withPoints returns the driver with points around its steps. Only a Drainer is one with
// them: what is in use for no longer than a moment ends otherwise.
func withPoints(d rotation.Driver, b failpoints) rotation.Driver {
	if drainer, ok := d.(rotation.Drainer); ok {
		return breakingDrainer{breakingDriver{d, b}, drainer}
	}
	return breakingDriver{d, b}
}

// breakingDrainer is a breakingDriver whose values are in use for longer.
type breakingDrainer struct {
	breakingDriver
	drainer rotation.Drainer
}

// OverlapEnd implements rotation.Drainer.
func (d breakingDrainer) OverlapEnd(s rotation.Secret) (rotation.OverlapEnd, time.Duration) {
	return d.drainer.OverlapEnd(s)
}

// Sessions implements rotation.Drainer.
func (d breakingDrainer) Sessions(ctx context.Context, s rotation.Secret) (n int, err error) {
	err = d.b.around(ctx, subjectOf(s)+".look", func() error {
		n, err = d.drainer.Sessions(ctx, s)
		return err
	})
	return n, err
}

// Terminate implements rotation.Drainer.
func (d breakingDrainer) Terminate(ctx context.Context, s rotation.Secret, fence rotation.Fence) (n int, err error) {
	name := subjectOf(s) + ".terminate"
	err = d.b.around(ctx, name, func() error {
		n, err = d.drainer.Terminate(ctx, s, d.fence(name, fence))
		return err
	})
	return n, err
}

// Conceal implements rotation.Concealer.
func (d breakingDriver) Conceal(v rotation.Material) rotation.Material {
	if concealer, ok := d.Driver.(rotation.Concealer); ok {
		return concealer.Conceal(v)
	}
	return v
}

// Complete implements rotation.Completer.
func (d breakingDriver) Complete(s rotation.Secret, v rotation.Material) (rotation.Material, error) {
	if completer, ok := d.Driver.(rotation.Completer); ok {
		return completer.Complete(s, v)
	}
	return v, nil
}

// Look implements rotation.Looker, also for drivers that do not.
func (d breakingDriver) Look(ctx context.Context, s rotation.Secret, v rotation.Material) error {
	looker, ok := d.Driver.(rotation.Looker)
	if !ok {
		return nil
	}
	return d.b.around(ctx, subjectOf(s)+".look", func() error { return looker.Look(ctx, s, v) })
}

// Local implements rotation.Local.
func (d breakingDriver) Local() bool {
	local, ok := d.Driver.(rotation.Local)
	return ok && local.Local()
}

// Place implements rotation.Placer, also for drivers that do not.
func (d breakingDriver) Place(s rotation.Secret, v rotation.Material) (rotation.Material, error) {
	if placer, ok := d.Driver.(rotation.Placer); ok {
		return placer.Place(s, v)
	}
	return v, nil
}

// Publishes implements rotation.Prepublisher, also for drivers that do not.
func (d breakingDriver) Publishes(s rotation.Secret) bool {
	p, ok := d.Driver.(rotation.Prepublisher)
	return ok && p.Publishes(s)
}

// Fits implements rotation.Prepublisher.
func (d breakingDriver) Fits(s rotation.Secret, v rotation.Material) bool {
	p, ok := d.Driver.(rotation.Prepublisher)
	return ok && p.Fits(s, v)
}
