package publish

import (
	"context"
	"fmt"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Inspect tries, without changing anything, whether the values of a role may be
// published.
func (d *Destinations) Inspect(ctx context.Context, r *rotation.Role, _ []string, _ preflight.Subject) preflight.Report {
	found := preflight.Report{}
	for _, name := range r.Snapshot().Destinations {
		config, err := d.Get(ctx, name)
		if err == nil && config == nil {
			continue
		}
		if err == nil {
			err = d.preflight(ctx, r, config)
		}
		severity := preflight.Warning
		if config != nil && config.Required {
			severity = preflight.Error
		}
		found.Expect(err == nil, "destination.permissions", severity, preflight.Fix{}, "nothing can be published to destination %s: %v", name, err)
		if err == nil {
			untried := config.Target.Untried()
			found.Expect(untried == "", "destination.untried", preflight.Unknown, preflight.Fix{}, "destination %s needs these too, and the engine can't try them before a rotation: %s", name, untried)
		}
	}
	return found
}

// DryRun tells, for a person, what a rotation of a role publishes.
func (d *Destinations) DryRun(ctx context.Context, r *rotation.Role) (steps []string) {
	for _, name := range r.Snapshot().Destinations {
		if config, err := d.Get(ctx, name); err == nil && config != nil {
			steps = append(steps, fmt.Sprintf("publish %s to %s, by destination %s", publishedNames(config, r.Name), config.Target.Where(), name))
		}
	}
	return steps
}

// publishedNames lists under which names a destination has the values of a role.
func publishedNames(config *destination.Config, role string) string {
	made, err := config.Names("", role)
	if err != nil {
		return "nothing"
	}
	all := make([]string, 0, len(made.Items))
	for _, item := range made.Items {
		all = append(all, item.Name)
	}
	return strings.Join(all, ", ")
}

// remains says what a target keeps that nobody looks after any more.
func remains(name string, config *destination.Config, role string) string {
	return fmt.Sprintf("destination %s: %s keeps %s as they are; delete them there if nobody is to read them",
		name, config.Target.Where(), publishedNames(config, role))
}
