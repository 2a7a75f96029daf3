package usage

import (
	"fmt"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Summary says for an operator who still depends on the previous values of a role:
// whether it would disturb anybody to end their overlap now. It is "" when there
// are none.
func (u *Usage) Summary(r *rotation.Role) string {
	var found summary
	s := r.Snapshot()
	for _, name := range s.Names() {
		one := s.Secrets[name]
		if one.PreviousAt(u.ports.Now()) != nil && u.ports.Types[one.Type].OffersPrevious(*one) {
			u.summarize(r, one, &found)
		}
	}
	return found.sentence()
}

// summary is what is known of the use of previous values, by secret.
type summary struct {
	used, unused, unknown []string
	// names are those of the secrets in used.
	names []string
	// since is from when on those that are unused were watched.
	since time.Time
}

// summarize adds what is known about s.
func (u *Usage) summarize(r *rotation.Role, s *rotation.Secret, to *summary) {
	if sessions, ok := u.Sessions(r, s); ok {
		to.addSessions(s.Name, sessions)
		return
	}
	previous, counted := u.Uses(r, s, secret.StagePrevious)
	current, _ := u.Uses(r, s, secret.StageCurrent)
	switch {
	case !counted:
		to.unknown = append(to.unknown, s.Name+" (the engine does not see its use)")
	case !previous.Last.IsZero():
		to.addUsed(s.Name, fmt.Sprintf("uses since %s: %d, the last at %s", clock(previous.Since), previous.Count, clock(previous.Last)))
	case current.Last.IsZero():
		to.unknown = append(to.unknown, s.Name+" (nobody has verified any of its values here)")
	case publishes(u.ports.Types[s.Type], *s):
		to.unknown = append(to.unknown, s.Name+" (the engine does not see who verifies with its public keys)")
	default:
		to.addUnused(s.Name, previous.Since)
	}
}

// publishes reports whether others verify the values of s by themselves.
func publishes(t secret.Type, s rotation.Secret) bool {
	p, ok := t.(rotation.Prepublisher)
	return ok && p.Publishes(s)
}

func (d *summary) addSessions(name string, g Sessions) {
	switch {
	case g.At.IsZero() || g.Err != nil:
		d.unknown = append(d.unknown, name+" (the engine has not asked its server yet, or got no answer)")
	case g.Count > 0:
		d.addUsed(name, fmt.Sprintf("sessions at %s: %d", clock(g.At), g.Count))
	case !g.LastSeen.IsZero():
		d.addUsed(name, fmt.Sprintf("no session at %s, one at %s", clock(g.At), clock(g.LastSeen)))
	default:
		d.addUnused(name, g.Since)
	}
}

// addUsed adds a value that somebody has used, and what is known of that.
func (d *summary) addUsed(name, how string) {
	d.used, d.names = append(d.used, fmt.Sprintf("%s (%s)", name, how)), append(d.names, name)
}

// addUnused adds a value that nobody has used since.
func (d *summary) addUnused(name string, since time.Time) {
	d.unused = append(d.unused, name)
	if since.After(d.since) {
		d.since = since
	}
}

func (d *summary) sentence() string {
	var parts []string
	if len(d.used) > 0 {
		parts = append(parts, "Previous values are in use: "+strings.Join(d.used, ", "))
	}
	if len(d.unknown) > 0 {
		parts = append(parts, "It is not known who uses the previous values of "+strings.Join(d.unknown, ", "))
	}
	if len(d.unused) > 0 {
		parts = append(parts, fmt.Sprintf("Nobody has used the previous values of %s since %s", strings.Join(d.unused, ", "), clock(d.since)))
	}
	switch {
	case len(parts) == 0:
		return ""
	case len(d.used) > 0:
		parts = append(parts, "Ending the overlap now would cut off those who use the previous values of "+strings.Join(d.names, ", "))
	case len(d.unknown) == 0:
		parts = append(parts, "Ending the overlap now would cut off nobody that the engine sees")
	}
	return strings.Join(parts, ". ")
}

// clock is how a sentence tells a time.
func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }
