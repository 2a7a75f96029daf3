package secret

import (
	"context"
	"encoding/json"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// NoTarget is the part of a Type that is the same for all values that live only in
// the engine: there is no target, so that applying a value is to store it, and
// destroying the stored value is what makes it unusable.
type NoTarget struct{}

// Local implements rotation.Local.
func (NoTarget) Local() bool { return true }

// Set has nothing to apply.
func (NoTarget) Set(ctx context.Context, _ rotation.Secret, _ rotation.Material, _ rotation.Fence) error {
	return ctx.Err()
}

// Probe has nobody to ask.
func (NoTarget) Probe(ctx context.Context, _ rotation.Secret, _ rotation.Material) error {
	return ctx.Err()
}

// Undo has nothing to put back.
func (NoTarget) Undo(ctx context.Context, _ rotation.Secret, _ rotation.Fence) error {
	return ctx.Err()
}

// Retire has nothing to do: the engine destroys the value in its storage.
func (NoTarget) Retire(ctx context.Context, _ rotation.Secret, _ rotation.Material, _ rotation.Fence) error {
	return ctx.Err()
}

// CutsOver is false: both values can be in use until the previous is retired.
func (NoTarget) CutsOver(rotation.Secret) bool { return false }

// OffersPrevious is true for the same reason.
func (NoTarget) OffersPrevious(rotation.Secret) bool { return true }

// ValidateUpdate allows every change: it applies from the next value on.
func (NoTarget) ValidateUpdate(_, _ json.RawMessage) error { return nil }
