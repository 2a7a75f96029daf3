package backend

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// inspector looks at one side of a role, before that has to rotate, for what would
// make it fail or hurt later. It changes nothing, and ends when its context does.
// Names are those of the secrets that the operator asked about.
type inspector func(ctx context.Context, r *rotation.Role, names []string, about preflight.Subject) preflight.Report

// inspectors are all there are. What else a rotation depends on is looked at by one
// more.
func (b *backend) inspectors() []inspector {
	return []inspector{b.inspectTargets, b.inspectPolicy, b.inspectChecks, b.destinations.Inspect, b.inspectState}
}

// inspectTimeout bounds all that is looked at together.
const inspectTimeout = 10 * time.Second

// inspect has everybody look, and returns what they found in the order in which
// they are listed.
func (b *backend) inspect(ctx context.Context, r *rotation.Role, names []string) preflight.Report {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	about := b.subjectOf(r)
	inspectors := b.inspectors()
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

// subjectOf is what inspectors have to know of a role. A role that does not rotate by
// itself is looked at as if it did.
func (b *backend) subjectOf(r *rotation.Role) preflight.Subject {
	s := r.Snapshot()
	until := b.now().Add(2 * s.Terms.Interval)
	if next := s.Planned(); s.RotatesItself() && !next.IsZero() {
		until = next.Add(s.Terms.IntervalAt(next))
	}
	return preflight.Subject{Mount: b.mountPath(), Role: r.Name, Until: until}
}

// inspectTargets looks at where the values of the secrets are used.
func (b *backend) inspectTargets(ctx context.Context, r *rotation.Role, names []string, about preflight.Subject) preflight.Report {
	s := r.Snapshot()
	found := make([]preflight.Report, len(names))
	var looking sync.WaitGroup
	for i, name := range names {
		if t, ok := b.types[s.Secrets[name].Type].(secret.Inspector); ok {
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

// inspectChecks asks, once, whether anything answers where checks ask.
func (b *backend) inspectChecks(ctx context.Context, r *rotation.Role, _ []string, _ preflight.Subject) preflight.Report {
	s, found := r.Snapshot(), preflight.Report{}
	rule, ruleErr := b.outboundRule(ctx, outbound.ForChecks)
	for _, name := range checkNames(s.State) {
		c, err := check.Decode(s.Checks[name])
		if err = errors.Join(err, ruleErr); err == nil {
			err = c.Reach(ctx, rule)
		}
		severity := preflight.Error
		if c.OnFailure == check.Alert {
			severity = preflight.Warning
		}
		found.Expect(err == nil, "check.reachable", severity, preflight.Fix{},
			"nothing answers at %s, where check %s asks %s a rotation (%v): start it, or write the right url to checks/%s/%s", c.URL, name, c.Phase, err, r.Name, name)
	}
	return found
}

// inspectState looks at how a role is doing, and whether its state can grow.
func (b *backend) inspectState(_ context.Context, r *rotation.Role, _ []string, about preflight.Subject) preflight.Report {
	s, found := r.Snapshot(), preflight.Report{}
	found.Expect(!s.NeedsAttention, "role.attention", preflight.Error, about.Write("rotate", "reason=mended"),
		"automatic rotation has stopped after %d failures; mend first what the last one was: %s", s.Failures, s.LastError)
	found.Expect(s.InFlight == nil || r.Busy(), "role.interrupted", preflight.Warning, about.Write("rotate"),
		"an operation was interrupted, and waits to be finished")
	for _, name := range s.Unresolved() {
		found.Expect(false, "role.unresolved", preflight.Error, about.Write("verify", "repair=true"),
			"secret %s is unresolved since %s: its target may hold another value than the current one, and could not be put back: %s", name, timestamp(s.Secrets[name].Unresolved.Since), s.Secrets[name].Unresolved.Cause)
	}
	ahead := s.Ahead(b.now())
	found.Expect(len(ahead) == 0, "role.clock", preflight.Error, preflight.Command("chronyc", "makestep"),
		"these stored times are later than they can be, because the clock of this node is behind, or was ahead: %s; if it is right now, they are brought back within a minute", strings.Join(ahead, ", "))
	found.Expect(len(ahead) > 0 || s.Rewound == nil, "role.clock", preflight.Warning, preflight.Command("chronyc", "tracking"), "%s", s.Rewound)
	size, limit := s.Room()
	part, largest := largestPart(s.State)
	found.Expect(size <= limit/4*3, "role.storage", preflight.Warning, preflight.Fix{},
		"the role takes %d bytes of storage, and nothing more can be written to it above %d; the largest part is %s, of %d bytes: make that shorter, or spread what it has over two roles", size, limit, part, largest)
	return found
}

// largestPart is what people wrote that takes the most room, by its path.
func largestPart(s *rotation.State) (path string, size int) {
	for _, name := range s.Names() {
		if n := len(s.Secrets[name].Config); n > size {
			path, size = "the configuration of secret "+name, n
		}
	}
	for _, name := range checkNames(s) {
		if n := len(s.Checks[name]); n > size {
			path, size = "check "+name, n
		}
	}
	return path, size
}

// inspection answers what was found.
func inspection(found preflight.Report) map[string]any {
	findings := []map[string]any{}
	for _, f := range found.Open() {
		findings = append(findings, map[string]any{
			"check": f.Check, "severity": string(f.Severity), "secret": f.Secret, "detail": f.Detail, "fix": f.Fix.String(),
		})
	}
	return map[string]any{"ready": found.Ready(), "findings": findings, "passed": found.Passed(), "report": found.Text()}
}

// inspectionFields declares what inspection answers.
func inspectionFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"ready": field(framework.TypeBool, "Whether nothing was found because of which a rotation would fail or readers would suffer."),
		"findings": field(framework.TypeSlice, oneLine(`What is not as it should be, the worst first: check, which names what was looked
			at; severity, which is error, warning, or unknown for what could not be looked at; secret, empty if it is about the whole
			role; detail; and fix, the statements for psql or the command that mends it, or with unknown, that shows it.`)),
		"passed": field(framework.TypeStringSlice, "The checks that found nothing."),
		"report": field(framework.TypeString, "All of this as a text, to be read with -field=report."),
	}
}
