package backend

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// draftCheck is what the request makes of a check, of a role with that state.
func (b *backend) draftCheck(ctx context.Context, r *rotation.Role, s *rotation.State, name string, d *framework.FieldData) (check.Config, error) {
	c, before := check.Default(), way{}
	if stored := s.Checks[name]; stored != nil {
		var err error
		if c, err = check.Decode(stored); err != nil {
			return c, err
		}
		before = checkWay(c)
	}
	takeCheck(d, &c)
	rule, err := b.outboundRule(ctx, outbound.ForChecks)
	if err != nil {
		return c, err
	}
	if err := cmp.Or(before.stays(d, checkWay(c)), b.validateCheck(r, s, c)); err != nil {
		return c, err
	}
	c.Checked = true
	return c, c.Admit(ctx, rule)
}

// checkWay is how the requests of a check are sent.
func checkWay(c check.Config) way {
	return way{
		to:    map[string]string{"url": c.URL, "tls_ca": c.TLSCA},
		along: map[string]string{"headers": strings.Join(c.Headers, "\n"), "body": c.Body},
	}
}

// takeCheck takes over the fields that the request names.
func takeCheck(d *framework.FieldData, c *check.Config) {
	for name, target := range map[string]*string{
		"phase": &c.Phase, "url": &c.URL, "method": &c.Method, "body": &c.Body,
		"expected_body": &c.ExpectedBody, "tls_ca": &c.TLSCA, "on_failure": &c.OnFailure,
	} {
		takeString(d, name, target)
	}
	for name, target := range map[string]*int{
		"attempts": &c.Attempts, "success_threshold": &c.SuccessThreshold, "samples": &c.Samples,
		"concurrency": &c.Concurrency, "percentile": &c.Percentile, "max_latency_increase": &c.MaxLatencyIncrease,
	} {
		takeNumber(d, name, target)
	}
	for name, target := range map[string]*time.Duration{
		"timeout": &c.Timeout, "delay": &c.Delay, "interval": &c.Interval, "watch_period": &c.WatchPeriod,
	} {
		if v, ok := d.GetOk(name); ok {
			*target = time.Duration(v.(int)) * time.Second
		}
	}
	takeStrings(d, "headers", &c.Headers)
	if v, ok := d.GetOk("expected_status"); ok {
		c.ExpectedStatus = v.([]int)
	}
}

// validateCheck refuses what could not work.
func (b *backend) validateCheck(r *rotation.Role, s *rotation.State, c check.Config) error {
	values, err := b.checkValues(&rotation.Snapshot{State: s, Terms: r.Snapshot().Terms})
	if err != nil {
		return err
	}
	return c.Validate(slices.Sorted(maps.Keys(values)))
}

// checkFollows refuses, in the name of the field that was written, what might follow a
// rotation for longer than the previous values are kept: then there would be nothing
// to go back to. Checks begin when destinations have what is published, or their
// deadline is over.
func checkFollows(field string, s *rotation.State, overlap time.Duration, known map[string]*destination.Config) error {
	slow, longest, err := longestCheck(s)
	if err != nil || slow == "" {
		return err
	}
	slowest, deadline := "", time.Duration(0)
	for _, name := range s.Destinations {
		if c := known[name]; c != nil && c.Deadline > deadline {
			slowest, deadline = name, c.Deadline
		}
	}
	switch {
	case longest+deadline < overlap:
		return nil
	case slowest == "":
		return rotation.Invalid(field, "check %s may take %s, with watch_period, delay and attempts, and the previous values are kept for %s only: lower these, or give the role a longer overlap", slow, longest, overlap)
	}
	return rotation.Invalid(field, "check %s may take %s, with watch_period, delay and attempts, after destination %s, whose deadline is %s: %s together, and the previous values are kept for %s only: lower these, or give the role a longer overlap",
		slow, longest, slowest, deadline, longest+deadline, overlap)
}

// longestCheck is the check of a role that may take longest after the cut-over.
func longestCheck(s *rotation.State) (name string, longest time.Duration, err error) {
	for _, each := range checkNames(s) {
		c, err := check.Decode(s.Checks[each])
		if err != nil {
			return "", 0, err
		}
		if most := c.Longest(); c.Phase == check.After && most > longest {
			name, longest = each, most
		}
	}
	return name, longest, nil
}
