package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// inspectPolicy looks whether the times of a role agree with each other. When a role
// is written they are made to, but they change also when the defaults of the mount do.
func (d *Doctor) inspectPolicy(_ context.Context, r *rotation.Role, names []string, about preflight.Subject) preflight.Report {
	s, found := r.Snapshot(), preflight.Report{}
	resolved := s.Resolved
	half := resolved.Interval / 2
	overlap := min(resolved.Overlap, half)
	err := resolved.Validate()
	fields := []string{fmt.Sprintf("overlap=%d", rotation.Seconds(overlap)), fmt.Sprintf("refresh_interval=%d", rotation.Seconds(min(resolved.RefreshInterval, overlap/2)))}
	if resolved.OverlapLimit < overlap || resolved.OverlapLimit > resolved.Interval {
		fields = append(fields, "overlap_limit=0")
	}
	found.Expect(err == nil, "role.overlap", preflight.Error, about.Write("roles", fields...), "%s", plainReason(err))
	found.Expect(err != nil || resolved.Overlap <= half, "role.overlap", preflight.Warning, about.Write("roles", fmt.Sprintf("overlap=%d", rotation.Seconds(half))),
		"the overlap of %s is more than half of the %s between two rotations: after a late rotation or a rollback, the next one waits for the overlap to end", rotation.Span(resolved.Overlap), rotation.Span(resolved.Interval))
	for _, name := range names {
		c := s.Secrets[name]
		if tokens, ok := d.ports.Types[c.Type].(secret.Tokens); ok {
			found = append(found, inspectTokens(tokens, c, resolved, about).Of(name)...)
		} else if d.ports.Types[c.Type].CutsOver(*c) {
			found = append(found, inspectWindow(resolved, about).Of(name)...)
		}
	}
	return found
}

// plainReason is what an error says to the operator; "" without one.
func plainReason(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimPrefix(err.Error(), rotation.ErrInvalid.Error()+": ")
}

// inspectTokens compares how long tokens may live with how long their key does.
func inspectTokens(tokens secret.Tokens, s *rotation.Secret, resolved rotation.ResolvedPolicy, about preflight.Subject) (found preflight.Report) {
	field, longest, err := tokens.LongestLife(s.Config)
	fix := about.WriteSecret(s.Name, fmt.Sprintf("%s=%d", field, rotation.Seconds(resolved.Overlap)))
	found.Expect(err != nil || longest <= resolved.Overlap, "jwt.max_ttl", preflight.Warning, fix,
		"max_ttl is %s, but a key verifies its tokens only for the overlap of %s: the engine refuses to sign for longer", rotation.Span(longest), rotation.Span(resolved.Overlap))
	return found
}

// shortWindow is for how long logins may be refused before that is worth a word.
const shortWindow = time.Minute

// inspectWindow is about secrets whose current value ends when it is replaced: who
// has it finds out when they read again.
func inspectWindow(resolved rotation.ResolvedPolicy, about preflight.Subject) (found preflight.Report) {
	found.Expect(resolved.RefreshInterval <= shortWindow, "database.single_user", preflight.Warning, about.Write("roles", "refresh_interval=10"),
		"with single_user a rotation ends the old password at once, whatever the overlap is, and applications may not notice for %s (refresh_interval). alternating_users has no such window", rotation.Span(resolved.RefreshInterval))
	return found
}
