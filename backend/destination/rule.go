package destination

import (
	"context"
	"maps"
	"slices"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Admit says why the rule does not let this be stored. All that is sent to a target
// carries credentials, or values.
func (c *Config) Admit(ctx context.Context, rule outbound.Rule) error {
	addresses := c.Target.Addresses()
	for _, field := range slices.Sorted(maps.Keys(addresses)) {
		if err := rule.Admit(ctx, addresses[field], true); err != nil {
			return rotation.Invalid(field, "%v", err)
		}
	}
	return nil
}

// Standing puts in a word what the rule says of the addresses, the worst if it says
// several.
func (c *Config) Standing(rule outbound.Rule) string {
	said := outbound.Listed
	for _, address := range c.Target.Addresses() {
		if s := rule.For(c.Checked).Standing(address, true); said != outbound.Refused {
			said = s
		}
	}
	return said
}
