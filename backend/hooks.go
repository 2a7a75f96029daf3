package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt"
)

// hooks are what rotations have around them here: the destinations that get copies of
// the role's values, and then its checks, which may depend on those. They implement
// rotation.Hooks.
type hooks struct{ b *backend }

// Plan implements rotation.Hooks.
func (h hooks) Plan(ctx context.Context, r *rotation.Role, op rotation.Operation) ([]rotation.Task, error) {
	if op.Kind != rotation.KindRotate && op.Kind != rotation.KindRollback || roles.IsConnection(r) {
		return nil, nil
	}
	urgent := op.Kind == rotation.KindRollback || op.RevokePrevious
	copies, err := h.b.destinations.Plan(ctx, r, urgent)
	if err != nil {
		return nil, err
	}
	checks, err := h.b.checks.Plan(ctx, r, urgent)
	return append(copies, checks...), err
}

// Do implements rotation.Hooks.
func (h hooks) Do(ctx context.Context, r *rotation.Role, t rotation.Task) rotation.Task {
	if name, ok := t.Destination(); ok {
		return h.b.destinations.Attempt(ctx, r, name, t)
	}
	return h.b.checks.Do(ctx, r, t)
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
	overlap := snapshot.Resolved.Overlap
	claims, _, err := ring.Config().Claims(jwt.TokenRequest{
		Claims: map[string]any{}, TTL: min(testTokenLife, ring.Config().Lifetime(overlap)), Overlap: overlap, Now: b.now(),
	})
	if err != nil {
		return "", err
	}
	token, _, err := ring.Sign(claims)
	return token, err
}
