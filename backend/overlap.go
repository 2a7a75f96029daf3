package backend

import (
	"fmt"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// overlap says for an operator who still depends on the previous values of a role:
// whether it would disturb anybody to end their overlap now. It is "" when there
// are none.
func (b *backend) overlap(r *rotation.Role) string {
	var found dependents
	s := r.Snapshot()
	for _, name := range s.Names() {
		secret := s.Secrets[name]
		if secret.PreviousAt(b.now()) != nil && b.types[secret.Type].OffersPrevious(*secret) {
			b.dependents(r, secret, &found)
		}
	}
	return found.sentence()
}

// dependents collects, by secret, what is known of the use of previous values.
type dependents struct {
	used, unused, unknown []string
	// since is from when on those that are unused were looked at.
	since time.Time
}

// dependents adds what is known about s.
func (b *backend) dependents(r *rotation.Role, s *rotation.Secret, to *dependents) {
	if one, ok := b.watched(r, s); ok {
		to.addSessions(s.Name, b.sightings.of(one))
		return
	}
	previous, current := b.usage.of(r, s, stagePrevious), b.usage.of(r, s, stageCurrent)
	switch {
	case previous == nil:
		to.unknown = append(to.unknown, s.Name+" (its use does not pass through here)")
	case previous.last.Load() != 0:
		to.used = append(to.used, fmt.Sprintf("%s (uses since %s: %d, the last at %s)", s.Name, timestamp(previous.since), previous.count.Load(), previous.lastUsed()))
	case current == nil || current.last.Load() == 0:
		to.unknown = append(to.unknown, s.Name+" (nobody has had any of its values verified here)")
	case b.types[s.Type].Publishes(*s):
		to.unknown = append(to.unknown, s.Name+" (those who read its public keys are not seen here)")
	default:
		to.add(s.Name, previous.since)
	}
}

func (d *dependents) addSessions(name string, g sighting) {
	switch {
	case g.looked.IsZero() || g.err != nil:
		d.unknown = append(d.unknown, name+" (its server has not been asked yet, or did not answer)")
	case g.sessions.Count > 0:
		d.used = append(d.used, fmt.Sprintf("%s (sessions at %s: %d)", name, timestamp(g.looked), g.sessions.Count))
	case !g.lastSeen.IsZero():
		d.used = append(d.used, fmt.Sprintf("%s (no session at %s, one at %s)", name, timestamp(g.looked), timestamp(g.lastSeen)))
	default:
		d.add(name, g.since)
	}
}

// add notes a value that nobody has used since.
func (d *dependents) add(name string, since time.Time) {
	d.unused = append(d.unused, name)
	if since.After(d.since) {
		d.since = since
	}
}

func (d *dependents) sentence() string {
	var parts []string
	if len(d.used) > 0 {
		parts = append(parts, "previous values are in use: "+strings.Join(d.used, ", "))
	}
	if len(d.unknown) > 0 {
		parts = append(parts, "it is not known of "+strings.Join(d.unknown, ", "))
	}
	if len(d.unused) > 0 {
		parts = append(parts, fmt.Sprintf("nobody has used the previous values of %s since %s", strings.Join(d.unused, ", "), timestamp(d.since)))
	}
	switch {
	case len(parts) == 0:
		return ""
	case len(d.used) == 0 && len(d.unknown) == 0:
		return parts[0] + ": to end the overlap now would disturb nobody that is seen from here"
	case len(d.used) > 0:
		return strings.Join(parts, "; ") + ": to end the overlap now would cut off who uses them"
	}
	return strings.Join(parts, "; ")
}
