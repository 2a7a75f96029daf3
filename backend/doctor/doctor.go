// Package doctor looks at a role before that has to rotate: at its targets, its policy,
// its checks and destinations, and how it is doing. It tells what would make a rotation
// fail or hurt, and what a rotation would do. It changes nothing.
package doctor

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Ports are what the doctor needs of the mount.
type Ports struct {
	// Types are the types of secrets, by name.
	Types        map[string]secret.Type
	Destinations Destinations
	// Rule says where requests of checks may go.
	Rule func(ctx context.Context) (outbound.Rule, error)
	// Order is the order in which a rotation sets the named secrets.
	Order func(names []string, of func(name string) rotation.Secret) []string
	// Mount is the path of the mount.
	Mount func() string
	Now   func() time.Time
}

// Destinations look at those that a role names.
type Destinations interface {
	// Inspect tells what would keep copies from getting there.
	Inspect(ctx context.Context, r *rotation.Role, names []string, about preflight.Subject) preflight.Report
	// DryRun tells what is published after a rotation.
	DryRun(ctx context.Context, r *rotation.Role) []string
}

// Doctor looks at roles.
type Doctor struct{ ports Ports }

// New returns a doctor.
func New(ports Ports) *Doctor { return &Doctor{ports} }

// inspector looks at one side of a role, before that has to rotate, for what would
// make it fail or hurt later. It changes nothing, and ends when its context does.
// Names are those of the secrets that the operator asked about.
type inspector func(ctx context.Context, r *rotation.Role, names []string, about preflight.Subject) preflight.Report

// inspectors are all there are. What else a rotation depends on is looked at by one
// more.
func (d *Doctor) inspectors() []inspector {
	return []inspector{d.inspectTargets, d.inspectPolicy, d.inspectChecks, d.ports.Destinations.Inspect, d.inspectState}
}

// inspectTimeout bounds all that is looked at together.
const inspectTimeout = 10 * time.Second

// Inspect has everybody look, and returns what they found in the order in which
// they are listed.
func (d *Doctor) Inspect(ctx context.Context, r *rotation.Role, names []string) preflight.Report {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	about := d.Subject(r)
	inspectors := d.inspectors()
	found := make([]preflight.Report, len(inspectors))
	var looking sync.WaitGroup
	for i, look := range inspectors {
		looking.Go(func() { found[i] = look(ctx, r, names, about) })
	}
	looking.Wait()
	var all preflight.Report
	for _, report := range found {
		all = append(all, report...)
	}
	return all
}

// Subject is what inspectors have to know of a role. A role that does not rotate by
// itself is looked at as if it did.
func (d *Doctor) Subject(r *rotation.Role) preflight.Subject {
	s := r.Snapshot()
	until := d.ports.Now().Add(2 * s.Resolved.Interval)
	if next := s.Planned(); s.RotatesItself() && !next.IsZero() {
		until = next.Add(s.Resolved.IntervalAt(next))
	}
	return preflight.Subject{Mount: d.ports.Mount(), Role: r.Name, Until: until}
}

// inspectTargets looks at where the values of the secrets are used.
func (d *Doctor) inspectTargets(ctx context.Context, r *rotation.Role, names []string, about preflight.Subject) preflight.Report {
	s := r.Snapshot()
	found := make([]preflight.Report, len(names))
	var looking sync.WaitGroup
	for i, name := range names {
		if t, ok := d.ports.Types[s.Secrets[name].Type].(secret.Inspector); ok {
			looking.Go(func() { found[i] = t.Inspect(ctx, *s.Secrets[name], about).Of(name) })
		}
	}
	looking.Wait()
	var all preflight.Report
	for _, report := range found {
		all = append(all, report...)
	}
	return all
}

// inspectChecks asks, once, whether anything answers where checks ask. A check before a
// rotation that sends no value is sent as it is: what it finds, a rotation would find.
func (d *Doctor) inspectChecks(ctx context.Context, r *rotation.Role, _ []string, _ preflight.Subject) preflight.Report {
	s, found := r.Snapshot(), preflight.Report{}
	rule, ruleErr := d.ports.Rule(ctx)
	for _, name := range check.Names(s.State) {
		c, err := check.Decode(s.Checks[name])
		severity := preflight.Error
		if c.OnFailure == check.Alert {
			severity = preflight.Warning
		}
		if err = errors.Join(err, ruleErr); err == nil {
			err = c.Reach(ctx, rule)
		}
		var refused *outbound.Refusal
		found.Expect(!errors.As(err, &refused), "check.outbound", severity, preflight.Fix{}, "the engine does not send check %s: %v", name, refused)
		if refused != nil {
			continue
		}
		found.Expect(err == nil, "check.reachable", severity, preflight.Fix{},
			"nothing answers at %s, which check %s asks %s (%v): start the application, or write the right url to checks/%s/%s", c.URL, name, c.When(), err, r.Name, name)
		if err == nil && c.Phase == check.Before && !c.Carries() {
			err = c.Probe(ctx, rule, nil)
			found.Expect(err == nil, "check.answer", severity, preflight.Fix{},
				"check %s fails before a rotation: %s answers %s with %v. Mend the application, or write the right url, headers or expected_status to checks/%s/%s", name, c.URL, c.Method, err, r.Name, name)
		}
	}
	return found
}

// inspectState looks at how a role is doing, and whether its state can grow.
func (d *Doctor) inspectState(_ context.Context, r *rotation.Role, _ []string, about preflight.Subject) preflight.Report {
	s, found := r.Snapshot(), preflight.Report{}
	found.Expect(!s.NeedsAttention, "role.attention", preflight.Error, about.Write("rotate", "reason=mended"),
		"automatic rotation has stopped after %d failures; first fix the cause of the last one: %s", s.FailedRotations(), s.LastError)
	found.Expect(s.InFlight == nil || r.Busy(), "role.interrupted", preflight.Warning, about.Write("rotate"),
		"an operation was interrupted and is not finished yet")
	for _, name := range s.Unresolved() {
		found.Expect(false, "role.unresolved", preflight.Error, about.Write("verify", "repair=true"),
			"secret %s is unresolved since %s: its target may hold another value than the current one, and the engine could not put it back: %s", name, s.Secrets[name].Unresolved.Since.Format(time.RFC3339), s.Secrets[name].Unresolved.Cause)
	}
	ahead := s.Ahead(d.ports.Now())
	found.Expect(len(ahead) == 0, "role.clock", preflight.Error, preflight.Command("chronyc", "makestep"),
		"these stored times are later than possible, because the clock of this node is behind, or was ahead: %s. If the clock is right now, the engine corrects them within a minute", strings.Join(ahead, ", "))
	found.Expect(len(ahead) > 0 || s.Rewound == nil, "role.clock", preflight.Warning, preflight.Command("chronyc", "tracking"), "%s", s.Rewound)
	size, limit := s.Room()
	part, largest := largestPart(s.State)
	found.Expect(size <= limit/4*3, "role.storage", preflight.Warning, preflight.Fix{},
		"the role takes %d bytes of storage, and the limit is %d. Its largest part is %s, with %d bytes: make that shorter, or spread its secrets over two roles", size, limit, part, largest)
	return found
}

// largestPart is what people wrote that takes the most room, by its path.
func largestPart(s *rotation.State) (path string, size int) {
	for _, name := range s.Names() {
		if n := len(s.Secrets[name].Config); n > size {
			path, size = "the configuration of secret "+name, n
		}
	}
	for _, name := range check.Names(s) {
		if n := len(s.Checks[name]); n > size {
			path, size = "check "+name, n
		}
	}
	return path, size
}
