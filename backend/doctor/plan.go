package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Plan tells, for a person, what a rotation of these secrets does, in order.
func (d *Doctor) Plan(ctx context.Context, r *rotation.Role, names []string, users map[string]string) []string {
	s := r.Snapshot()
	steps := append(d.checkSteps(s, check.Before, "before the engine changes anything"), "make new values, and save them as pending")
	ordered := d.ports.Order(names, func(name string) rotation.Secret { return *s.Secrets[name] })
	for _, name := range ordered {
		steps = append(steps, d.secretStep(*s.Secrets[name], users[name]))
	}
	steps = append(steps, fmt.Sprintf("commit all of it as version %d, by one write", s.Version+1))
	steps = append(steps, d.ports.Destinations.DryRun(ctx, r)...)
	steps = append(steps, d.checkSteps(s, check.After, "after the commit")...)
	overlap := "the overlap of " + rotation.Span(s.Resolved.Overlap)
	if limit := s.Resolved.OverlapLimit; limit > s.Resolved.Overlap {
		overlap += fmt.Sprintf(", or up to %s while somebody needs them", rotation.Span(limit))
	}
	steps = append(steps, fmt.Sprintf("retire the previous values after %s, and prove that they are refused", overlap))
	return append(steps, d.checkSteps(s, check.Retire, fmt.Sprintf("%s later, whether it refuses previous values", rotation.Span(s.Resolved.RefreshInterval)))...)
}

// PlanText tells the steps of Plan to a person.
func PlanText(steps []string) string {
	var b strings.Builder
	b.WriteString("\n\nA ROTATION WOULD")
	for i, step := range steps {
		fmt.Fprintf(&b, "\n%d. %s", i+1, step)
	}
	return b.String()
}

// untried is what a dry run cannot tell, because it rolls back.
const untried = "a dry run does not try whether the server accepts the COMMIT"

// secretStep is what happens to one secret, whose new value is of that user.
func (d *Doctor) secretStep(s rotation.Secret, user string) string {
	switch {
	case user == "":
		return fmt.Sprintf("use the new value of %s", s.Name)
	case d.ports.Types[s.Type].CutsOver(s):
		return fmt.Sprintf("give %s the new password of %s, which ends the one in use, and log in with it; "+untried, user, s.Name)
	}
	return fmt.Sprintf("give %s the new password of %s, and log in with it; "+untried, user, s.Name)
}

// checkSteps are the checks of one phase.
func (d *Doctor) checkSteps(s *rotation.Snapshot, phase, when string) (steps []string) {
	for _, name := range check.Names(s.State) {
		if c, err := check.Decode(s.Checks[name]); err == nil && c.Phase == phase {
			steps = append(steps, fmt.Sprintf("ask %s, %s, by check %s", c.URL, when, name))
		}
	}
	return steps
}
