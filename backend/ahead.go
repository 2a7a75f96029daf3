package backend

import (
	"context"
	"fmt"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// ahead tells, for a person, what a rotation of these secrets does, in order.
func (b *backend) ahead(ctx context.Context, r *rotation.Role, names []string, users map[string]string) []string {
	s := r.Snapshot()
	steps := append(b.checksAhead(s, check.Before, "before anything is changed"), "make new values, and save them as pending")
	ordered := b.engine.Order(names, func(name string) rotation.Secret { return *s.Secrets[name] })
	for _, name := range ordered {
		steps = append(steps, b.stepAhead(*s.Secrets[name], users[name]))
	}
	steps = append(steps, fmt.Sprintf("commit all of it as version %d, by one write", s.Version+1))
	steps = append(steps, b.destinations.DryRun(ctx, r)...)
	steps = append(steps, b.checksAhead(s, check.After, "after the commit")...)
	return append(steps, fmt.Sprintf("retire the previous values after the overlap of %s, and prove that they are refused", s.Terms.Overlap))
}

// aheadText tells the steps to a person.
func aheadText(steps []string) string {
	var b strings.Builder
	b.WriteString("\n\nA ROTATION WOULD")
	for i, step := range steps {
		fmt.Fprintf(&b, "\n%d. %s", i+1, step)
	}
	return b.String()
}

// untried is what a dry run cannot tell, because it rolls back.
const untried = "whether the server lets that COMMIT is not tried here"

// stepAhead is what happens to one secret, whose new value is of that user.
func (b *backend) stepAhead(s rotation.Secret, user string) string {
	switch {
	case user == "":
		return fmt.Sprintf("use the new value of %s", s.Name)
	case b.types[s.Type].CutsOver(s):
		return fmt.Sprintf("give %s the new password of %s, which ends the one in use, and log in with it; "+untried, user, s.Name)
	}
	return fmt.Sprintf("give %s the new password of %s, and log in with it; "+untried, user, s.Name)
}

// checksAhead are the checks of one phase.
func (b *backend) checksAhead(s *rotation.Snapshot, phase, when string) (steps []string) {
	for _, name := range checkNames(s.State) {
		if c, err := check.Decode(s.Checks[name]); err == nil && c.Phase == phase {
			steps = append(steps, fmt.Sprintf("ask %s, %s, by check %s", c.URL, when, name))
		}
	}
	return steps
}
