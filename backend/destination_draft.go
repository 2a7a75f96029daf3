package backend

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/schedule"
)

// draftDestination returns what is stored, nil for a new destination, what the
// request makes of it, and the roles that have to get on with that.
func (b *backend) draftDestination(ctx context.Context, name string, d *framework.FieldData) (stored, c *destination.Config, using []*rotation.Role, err error) {
	if stored, err = b.destination(ctx, name); err != nil {
		return nil, nil, nil, err
	}
	if c, err = takeDestination(d, stored); err != nil {
		return nil, nil, nil, err
	}
	rule, err := b.outboundRule(ctx, outbound.ForDestinations)
	if err == nil {
		err = c.Admit(ctx, rule)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if using, err = b.rolesWith(ctx, name); err != nil {
		return nil, nil, nil, err
	}
	for _, r := range using {
		if c.AllowedRoles != nil && !c.AllowsRole(r.Name) {
			return nil, nil, nil, invalid("allowed_roles", "leaves out %s, which names the destination: name it as well, or take the destination out of that role first", r.Name)
		}
		if err := b.checkTogether(ctx, r.Snapshot(), name, c); err != nil {
			return nil, nil, nil, err
		}
	}
	return stored, c, using, nil
}

// takeDestination applies the request to what is stored, nil for a new one.
func takeDestination(d *framework.FieldData, stored *destination.Config) (*destination.Config, error) {
	c, before := destination.New(d.Get("type").(string)), way{}
	if stored != nil {
		if v, ok := d.GetOk("type"); ok && v != stored.Type {
			return nil, invalid("type", "of an existing destination cannot be changed from %s to %s; write another destination", stored.Type, v)
		}
		c, before = stored.Clone(), destinationWay(stored)
	}
	if c == nil {
		return nil, invalid("type", "%q is not a type of destination; the types are: %s", d.Get("type"), strings.Join(destination.Types(), ", "))
	}
	if err := takeTarget(d, c); err != nil {
		return nil, err
	}
	takeStrings(d, "allowed_roles", &c.AllowedRoles)
	takeStrings(d, "values", &c.Values)
	takeBool(d, "required", &c.Required)
	takeBool(d, "adopt", &c.Adopt)
	takeString(d, "on_drift", &c.OnDrift)
	for field, target := range map[string]*time.Duration{"timeout": &c.Timeout, "deadline": &c.Deadline} {
		if v, ok := d.GetOk(field); ok {
			*target = time.Duration(v.(int)) * time.Second
		}
	}
	c.Checked = true
	return c, errorsFirst(before.stays(d, destinationWay(c)), c.Validate())
}

// wayFields say where the credentials of a destination and the values are sent to.
var wayFields = []string{
	"address", "auth_mount", "endpoint", "mount", "namespace", "region", "role_arn", "sts_endpoint", "tls_ca", "url",
}

// destinationWay is how what a destination publishes is sent. What is not a
// placeholder in its values is not shown, and so may be a secret.
func destinationWay(c *destination.Config) way {
	w := way{to: map[string]string{}, along: map[string]string{}}
	for name, value := range c.Target.Fields() {
		if slices.Contains(wayFields, name) {
			w.to[name] = *value
		}
		if slices.Contains(destination.SecretFields, name) {
			w.along[name] = *value
		}
	}
	if !slices.Equal(c.Values, shownValues(c.Values)) {
		w.along["values"] = strings.Join(c.Values, "\n")
	}
	return w
}

// takeTarget takes over the settings of the target.
func takeTarget(d *framework.FieldData, c *destination.Config) error {
	own := c.Target.Fields()
	for _, name := range slices.Sorted(maps.Keys(targetFields)) {
		v, named := d.GetOk(name)
		switch target := own[name]; {
		case !named:
		case target == nil:
			return invalid(name, "is not a field of type %s, which has: %s", c.Type, strings.Join(slices.Sorted(maps.Keys(own)), ", "))
		default:
			*target = v.(string)
		}
	}
	return nil
}

// probeRole stands for the roles of a destination that none names yet.
const probeRole = defaultRole

// verifyDestination tries, without changing anything, whether the values of the
// roles may be published.
func (b *backend) verifyDestination(ctx context.Context, c *destination.Config, using []*rotation.Role) error {
	names := roleNames(using)
	if len(names) == 0 {
		names = []string{probeRole}
	}
	rule, err := b.outboundRule(ctx, outbound.ForDestinations)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	for _, role := range names {
		probe, err := c.Names(b.copies.owner(role), role)
		if err != nil {
			return err
		}
		if err := c.Preflight(ctx, rule, probe); err != nil {
			return invalid("type", "the target was asked and %v. Nothing was stored; verify=false stores without asking", err)
		}
	}
	return nil
}

// checkPublished refuses a destination that a role with that state could not use.
// While the role has no secrets at all, they are yet to come.
func (b *backend) checkPublished(s *rotation.State, overlap time.Duration, name string, c *destination.Config) error {
	if c.Required && c.Deadline >= overlap {
		return invalid("deadline", "of destination %s is %s, and the previous values are kept for %s only, so nothing could be rolled back: lower it, or give the role a longer overlap", name, c.Deadline, overlap)
	}
	if len(s.Secrets) == 0 {
		return nil
	}
	values, err := b.fieldValues(s)
	if err != nil {
		return err
	}
	return c.CheckPlaceholders(valueNames(values))
}

// checkTogether refuses a destination that a role which names it could not use, alone
// or with what else follows its rotations.
func (b *backend) checkTogether(ctx context.Context, s *rotation.Snapshot, name string, c *destination.Config) error {
	if err := b.checkPublished(s.State, s.Terms.Overlap, name, c); err != nil {
		return err
	}
	known, err := b.destinations(ctx, s.Destinations)
	if err != nil {
		return err
	}
	known[name] = c
	return checkFollows("deadline", s.State, s.Terms.Overlap, known)
}

// valueNames are what placeholders may name.
func valueNames(values map[string]string) []string { return slices.Sorted(maps.Keys(values)) }

func roleNames(using []*rotation.Role) []string {
	names := make([]string, 0, len(using))
	for _, r := range using {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	return names
}

// dropped warns of what a change of a destination leaves behind.
func dropped(name string, before, after *destination.Config, using []*rotation.Role) *logical.Response {
	resp := &logical.Response{}
	for _, r := range using {
		if before.Target.Where() != after.Target.Where() || publishedNames(before, r.Name) != publishedNames(after, r.Name) {
			resp.AddWarning("changed: " + remains(name, before, r.Name))
		}
	}
	if len(resp.Warnings) == 0 {
		return nil
	}
	return resp
}

// takeDestinations takes over which destinations a role has. What it returns are
// those that it has no more.
func (b *backend) takeDestinations(d *framework.FieldData, s *rotation.State, r *rotation.Role, known map[string]*destination.Config) (gone []string, err error) {
	before := s.Destinations
	takeStrings(d, "destinations", &s.Destinations)
	terms, err := s.Policy.Resolve(b.rotationSettings().Defaults, schedule.ParseCron, r.Key)
	if err != nil {
		return nil, err
	}
	for i, name := range s.Destinations {
		switch c := known[name]; {
		case c == nil:
			return nil, invalid("destinations", "there is no destination %q; write destinations/%s first", name, name)
		case slices.Contains(s.Destinations[:i], name):
			return nil, invalid("destinations", "%q is named twice", name)
		case !slices.Contains(before, name) && !c.AllowsRole(r.Name):
			return nil, invalid("destinations", "%q is not for role %s (allowed_roles); to allow it, an administrator of the mount runs: vault write %sdestinations/%s allowed_roles='%s'",
				name, r.Name, b.mountPath(), name, strings.Join(append(slices.Clone(c.AllowedRoles), r.Name), ","))
		default:
			if err := b.checkPublished(s, terms.Overlap, name, c); err != nil {
				return nil, err
			}
		}
	}
	if err := checkFollows("overlap, destinations", s, terms.Overlap, known); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(before), func(name string) bool { return slices.Contains(s.Destinations, name) }), nil
}

// destinations reads those of that name. What is not there is left out.
func (b *backend) destinations(ctx context.Context, names []string) (map[string]*destination.Config, error) {
	known := map[string]*destination.Config{}
	for _, name := range names {
		c, err := b.destination(ctx, name)
		if err != nil {
			return nil, err
		}
		if c != nil {
			known[name] = c
		}
	}
	return known, nil
}

// leave forgets the copies of a role at destinations that it names no more, and
// answers with a warning of what stays there, beside others.
func (b *backend) leave(ctx context.Context, role string, gone []string, known map[string]*destination.Config, warnings []string) (*logical.Response, error) {
	for _, name := range gone {
		if err := b.copies.forget(ctx, copyKey{name, role}); err != nil {
			return nil, err
		}
		if c := known[name]; c != nil {
			warnings = append(warnings, remains(name, c, role))
		}
	}
	if len(warnings) == 0 {
		return nil, nil
	}
	return &logical.Response{Warnings: warnings}, nil
}
