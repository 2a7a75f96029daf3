package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/identitytpl"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/schedule"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt"
)

// checkTokens refuses a configuration whose tokens would outlive their keys, and a
// template that makes no claims.
func checkTokens(typeName string, config json.RawMessage, resolved rotation.ResolvedPolicy) error {
	if typeName != jwtType {
		return nil
	}
	c, err := jwt.ReadConfig(config)
	if err != nil {
		return err
	}
	if longest := time.Duration(c.MaxTTL) * time.Second; longest > resolved.Overlap {
		return rotation.Invalid("max_ttl", "is %d seconds, longer than the overlap of the role, which is %d seconds: a token would outlive its key", c.MaxTTL, rotation.Seconds(resolved.Overlap))
	}
	if c.ClaimsTemplate == "" {
		return nil
	}
	_, err = identityClaims(c, &logical.Entity{}, nil)
	return err
}

// checkLifetimes refuses to make the overlap shorter than tokens may live.
func (b *backend) checkLifetimes(s *rotation.State, r *rotation.Role) error {
	resolved, err := s.Policy.Resolve(b.rotationSettings().Defaults, schedule.ParseCron, r.Key)
	if err != nil || resolved.Overlap >= r.Snapshot().Resolved.Overlap {
		return err
	}
	for _, name := range s.Names() {
		if s.Secrets[name].Type != jwtType {
			continue
		}
		c, err := jwt.ReadConfig(s.Secrets[name].Config)
		if err != nil {
			return err
		}
		if time.Duration(c.MaxTTL)*time.Second > resolved.Overlap {
			return rotation.Invalid("overlap", "is %d seconds, and tokens of secret %s live for up to max_ttl, %d seconds: they would outlive their key; lower max_ttl of secrets/%s/%s first",
				rotation.Seconds(resolved.Overlap), name, c.MaxTTL, r.Name, name)
		}
	}
	return nil
}

// nextFor makes the key to be published ahead if the request changes the
// configuration so that the one that is published does not fit any more.
func (b *backend) nextFor(ctx context.Context, r *rotation.Role, d *framework.FieldData) (rotation.Material, error) {
	changed, err := b.reconfigured(r, r.Snapshot().State, d)
	if err != nil {
		return nil, err
	}
	t := b.types[changed.Type]
	if !t.Publishes(*changed) || changed.Next != nil && t.Fits(*changed, changed.Next.Material) {
		return nil, nil
	}
	next, err := t.Create(ctx, *changed)
	if err != nil {
		return nil, fmt.Errorf("make key to publish: %w", err)
	}
	return next, nil
}

// republish replaces the key that is published ahead where it does not fit.
func (b *backend) republish(s *rotation.Secret, next rotation.Material) {
	t := b.types[s.Type]
	if s.Next != nil && !t.Fits(*s, s.Next.Material) {
		s.Next = nil
	}
	if s.Next == nil && next != nil && t.Fits(*s, next) {
		now := b.now().UTC().Truncate(time.Second)
		s.Next = &rotation.Value{Material: next, Created: now, Published: now}
	}
}

// parsed is a keyring, or why there is none.
type parsed struct {
	ring *jwt.Keyring
	err  error
}

// keyring returns the parsed keys of a secret, which are kept as long as the
// snapshot they are of.
func keyring(snapshot *rotation.Snapshot, s *rotation.Secret) (*jwt.Keyring, error) {
	kept := snapshot.Memo("keyring/"+s.Name, func() any {
		ring, err := jwt.NewKeyring(*s)
		return parsed{ring, err}
	}).(parsed)
	return kept.ring, kept.err
}

// identityClaims are the claims that the template of c makes of an identity.
func identityClaims(c jwt.Config, entity *logical.Entity, groups []*logical.Group) (map[string]any, error) {
	_, text, err := identitytpl.PopulateString(identitytpl.PopulateStringInput{
		Mode: identitytpl.JSONTemplating, String: c.ClaimsTemplate, Entity: entity, Groups: groups,
	})
	if err != nil {
		return nil, rotation.Invalid("claims_template", "can't be filled in: %v", err)
	}
	claims, err := jwt.DecodeClaims("claims_template", text)
	if err != nil {
		return nil, err
	}
	return claims, c.CheckIdentity(claims)
}

// callerClaims are the claims that the template of c makes of the caller's identity.
func (b *backend) callerClaims(req *logical.Request, c jwt.Config) (map[string]any, error) {
	if c.ClaimsTemplate == "" {
		return nil, nil
	}
	entity, err := b.entity(req)
	if err != nil {
		return nil, err
	}
	if entity == nil {
		return nil, rotation.Invalid("claims_template", "needs an identity, and your token has none: log in by an auth method that gives one (root tokens and those made from them have none)")
	}
	groups, err := b.System().GroupsForEntity(req.EntityID)
	if err != nil {
		return nil, fmt.Errorf("read groups of the caller: %w", err)
	}
	return identityClaims(c, entity, groups)
}

// entity is the identity of who makes a request, nil if it has none.
func (b *backend) entity(req *logical.Request) (*logical.Entity, error) {
	if req.EntityID == "" {
		return nil, nil
	}
	entity, err := b.System().EntityInfo(req.EntityID)
	if err != nil {
		return nil, fmt.Errorf("read identity of the caller: %w", err)
	}
	return entity, nil
}
