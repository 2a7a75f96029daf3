package backend

import (
	"context"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/publish"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// hooks are what rotations have around them here: the destinations that get copies of
// the role's values, and then its checks, which may depend on those. They implement
// rotation.Hooks.
type hooks struct {
	destinations *publish.Destinations
	checks       *check.Checks
}

// Plan implements rotation.Hooks.
func (h hooks) Plan(ctx context.Context, r *rotation.Role, op rotation.Operation) ([]rotation.Task, error) {
	switch {
	case roles.IsConnection(r):
		return nil, nil
	case op.Kind == rotation.KindRetire:
		return h.checks.Retirement(r, op.Secrets), nil
	case op.Kind != rotation.KindRotate && op.Kind != rotation.KindRollback:
		return nil, nil
	}
	urgent := op.Kind == rotation.KindRollback || op.RevokePrevious
	copies, err := h.destinations.Plan(ctx, r, urgent)
	if err != nil {
		return nil, err
	}
	checks, err := h.checks.Plan(ctx, r, urgent)
	return append(copies, checks...), err
}

// Do implements rotation.Hooks.
func (h hooks) Do(ctx context.Context, r *rotation.Role, t rotation.Task) rotation.Task {
	if name, ok := t.Destination(); ok {
		return h.destinations.Attempt(ctx, r, name, t)
	}
	_ = failpoint(ctx, "check-"+r.Name+".ask", func() error { // the task says by itself what fails
		t = h.checks.Do(ctx, r, t)
		return nil
	})
	return t
}
