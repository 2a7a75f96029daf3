package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// rehearse says what a rotation of a role would publish, by name, and what would be
// in the way of a required destination.
func (c *copies) rehearse(ctx context.Context, r *rotation.Role) (findings []string, problems error) {
	for _, name := range r.Snapshot().Destinations {
		config, err := c.b.destination(ctx, name)
		if err != nil {
			return nil, err
		}
		if config == nil {
			continue
		}
		findings = append(findings, fmt.Sprintf("destination %s: would publish %s to %s", name, publishedNames(config, r.Name), config.Target.Where()))
		err = c.preflight(ctx, r, config)
		switch {
		case err != nil && config.Required:
			problems = errors.Join(problems, fmt.Errorf("destination %s: %w", name, err))
		case err != nil:
			findings = append(findings, fmt.Sprintf("destination %s: %v", name, err))
		}
	}
	return findings, problems
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
