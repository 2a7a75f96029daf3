package publish

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Change is a request to make or change a destination.
type Change struct {
	// Type is nil unless the request names it.
	Type *string
	// Target has the settings of the target that the request names.
	Target map[string]string
	// Take takes over what else the request names.
	Take func(*destination.Config)
	// Way refuses to send stored secrets another way, unless the request gives them
	// again.
	Way func(stored, c *destination.Config) error
	// Unverified stores the destination without asking the target.
	Unverified bool
}

// Write makes or changes a destination, and reconciles it. The target is asked before
// anything is locked: it may take its time. It returns what the change leaves behind.
func (d *Destinations) Write(ctx context.Context, name string, change Change) (warnings []string, err error) {
	if !change.Unverified {
		_, c, using, err := d.draft(ctx, name, change)
		if err != nil {
			return nil, err
		}
		if err := d.verify(ctx, c, using); err != nil {
			return nil, err
		}
	}
	d.ports.Configuring.Lock()
	defer d.ports.Configuring.Unlock()
	stored, c, using, err := d.draft(ctx, name, change)
	if err != nil {
		return nil, err
	}
	if err := d.ports.Store.Write(ctx, Prefix+name, c); err != nil {
		return nil, fmt.Errorf("save destination: %w", err)
	}
	d.Recheck(name)
	return dropped(name, stored, c, using), nil
}

// draft returns what is stored, nil for a new destination, what a change makes of it,
// and the roles that have to get on with that.
func (d *Destinations) draft(ctx context.Context, name string, change Change) (stored, c *destination.Config, using []*rotation.Role, err error) {
	if stored, err = d.Get(ctx, name); err != nil {
		return nil, nil, nil, err
	}
	if c, err = change.apply(stored); err != nil {
		return nil, nil, nil, err
	}
	rule, err := d.ports.Rule(ctx)
	if err == nil {
		err = c.Admit(ctx, rule)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if using, err = d.using(ctx, name); err != nil {
		return nil, nil, nil, err
	}
	for _, r := range using {
		if c.AllowedRoles != nil && !c.AllowsRole(r.Name) {
			return nil, nil, nil, rotation.Invalid("allowed_roles", "leaves out %s, which names the destination: name it as well, or take the destination out of that role first", r.Name)
		}
		if err := d.checkTogether(ctx, r.Snapshot(), name, c); err != nil {
			return nil, nil, nil, err
		}
	}
	return stored, c, using, nil
}

// apply returns what a change makes of what is stored, nil for a new destination.
func (w Change) apply(stored *destination.Config) (*destination.Config, error) {
	kind := ""
	if w.Type != nil {
		kind = *w.Type
	}
	c := destination.New(kind)
	if stored != nil {
		if w.Type != nil && kind != stored.Type {
			return nil, rotation.Invalid("type", "of an existing destination cannot be changed from %s to %s; write another destination", stored.Type, kind)
		}
		c = stored.Clone()
	}
	if c == nil {
		return nil, rotation.Invalid("type", "%q is not a type of destination; the types are: %s", kind, strings.Join(destination.Types(), ", "))
	}
	own := c.Target.Fields()
	for _, name := range slices.Sorted(maps.Keys(w.Target)) {
		if own[name] == nil {
			return nil, rotation.Invalid(name, "is not a field of type %s, which has: %s", c.Type, strings.Join(slices.Sorted(maps.Keys(own)), ", "))
		}
		*own[name] = w.Target[name]
	}
	w.Take(c)
	c.Checked = true
	if stored != nil {
		if err := w.Way(stored, c); err != nil {
			return nil, err
		}
	}
	return c, c.Validate()
}

// Delete forgets a destination that no role names.
func (d *Destinations) Delete(ctx context.Context, name string) error {
	d.ports.Configuring.Lock()
	defer d.ports.Configuring.Unlock()
	using, err := d.RoleNames(ctx, name)
	if err != nil {
		return err
	}
	if len(using) > 0 {
		return rotation.Invalid("name", "destination %s is named by the roles %s; take it out of their destinations first", name, roles.Sample(using))
	}
	return d.ports.Store.Delete(ctx, Prefix+name)
}

// probeRole stands for the roles of a destination that none names yet.
const probeRole = "default"

// asked names the settings with which a target is asked: where it is, and as whom.
func asked(t destination.Target) string {
	names := append(slices.Collect(maps.Keys(t.Addresses())), destination.SecretFields...)
	names = slices.DeleteFunc(names, func(name string) bool {
		value := t.Fields()[name]
		return value == nil || *value == ""
	})
	slices.Sort(names)
	return cmp.Or(strings.Join(names, ", "), "type")
}

// verify tries, without changing anything, whether the values of the roles may be
// published.
func (d *Destinations) verify(ctx context.Context, c *destination.Config, using []*rotation.Role) error {
	names := roleNames(using)
	if len(names) == 0 {
		names = []string{probeRole}
	}
	rule, err := d.ports.Rule(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	for _, role := range names {
		probe, err := c.Names(d.owner(role), role)
		if err != nil {
			return err
		}
		if err := c.Target.Preflight(ctx, rule.For(c.Checked), probe); err != nil {
			return rotation.Invalid(asked(c.Target), "the engine asked the target whether it may publish there, and it may not: %v. Nothing was stored; verify=false stores without asking", err)
		}
	}
	return nil
}

// checkAlone refuses a destination that a role with that state could not use. While
// the role has no secrets at all, they are yet to come.
func (d *Destinations) checkAlone(s *rotation.State, overlap time.Duration, name string, c *destination.Config) error {
	if c.Required && c.Deadline >= overlap {
		return rotation.Invalid("deadline", "of destination %s is %s, and the previous values are kept for %s only, so nothing could be rolled back: lower it, or give the role a longer overlap", name, rotation.Span(c.Deadline), rotation.Span(overlap))
	}
	if len(s.Secrets) == 0 {
		return nil
	}
	values, err := d.ports.Values(s)
	if err != nil {
		return err
	}
	return c.CheckPlaceholders(slices.Sorted(maps.Keys(values)))
}

// checkTogether refuses a destination that a role which names it could not use, alone
// or with what else follows its rotations.
func (d *Destinations) checkTogether(ctx context.Context, s *rotation.Snapshot, name string, c *destination.Config) error {
	if err := d.checkAlone(s.State, s.Resolved.Overlap, name, c); err != nil {
		return err
	}
	known, err := d.Named(ctx, s.Destinations)
	if err != nil {
		return err
	}
	known[name] = c
	return d.ports.Fit("deadline", s.State, s.Resolved.Overlap, Deadlines(known))
}

// dropped says what a change of a destination leaves behind.
func dropped(name string, before, after *destination.Config, using []*rotation.Role) (warnings []string) {
	for _, r := range using {
		if before.Target.Where() != after.Target.Where() || publishedNames(before, r.Name) != publishedNames(after, r.Name) {
			warnings = append(warnings, "changed: "+remains(name, before, r.Name))
		}
	}
	return warnings
}

// Admit refuses the destinations that the draft of a role names, unless it may name
// and use them all. It returns those that the role has no more.
func (d *Destinations) Admit(draft *rotation.State, overlap time.Duration, r *rotation.Role, before []string, known map[string]*destination.Config) (gone []string, err error) {
	for i, name := range draft.Destinations {
		switch c := known[name]; {
		case c == nil:
			return nil, rotation.Invalid("destinations", "there is no destination %q; write destinations/%s first", name, name)
		case slices.Contains(draft.Destinations[:i], name):
			return nil, rotation.Invalid("destinations", "%q is named twice", name)
		case !slices.Contains(before, name) && !c.AllowsRole(r.Name):
			return nil, rotation.Invalid("destinations", "%q is not for role %s (allowed_roles); to allow it, an administrator of the mount runs: vault write %sdestinations/%s allowed_roles='%s'",
				name, r.Name, d.ports.Mount(), name, strings.Join(append(slices.Clone(c.AllowedRoles), r.Name), ","))
		default:
			if err := d.checkAlone(draft, overlap, name, c); err != nil {
				return nil, err
			}
		}
	}
	if err := d.ports.Fit("overlap, destinations", draft, overlap, Deadlines(known)); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(before), func(name string) bool { return slices.Contains(draft.Destinations, name) }), nil
}

// Leave forgets the copies of a role at destinations that it names no more.
func (d *Destinations) Leave(ctx context.Context, role string, gone []string) error {
	for _, name := range gone {
		if err := d.forget(ctx, key{name, role}); err != nil {
			return err
		}
	}
	return nil
}

// Remains says what stays at destinations that a role names no more.
func Remains(role string, gone []string, known map[string]*destination.Config) (left []string) {
	for _, name := range gone {
		if c := known[name]; c != nil {
			left = append(left, remains(name, c, role))
		}
	}
	return left
}

// Deadlines are those of destinations, by name.
func Deadlines(known map[string]*destination.Config) map[string]time.Duration {
	all := map[string]time.Duration{}
	for name, c := range known {
		if c != nil {
			all[name] = c.Deadline
		}
	}
	return all
}
