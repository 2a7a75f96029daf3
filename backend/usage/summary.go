package usage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Summary says for an operator who still depends on the previous values of a role:
// whether it would disturb anybody to end their overlap now. It is "" when there
// are none.
func (u *Usage) Summary(r *rotation.Role) string {
	s, readers := r.Snapshot(), u.Readers(r)
	found := summary{readers: readers}
	for _, name := range s.Names() {
		one := s.Secrets[name]
		if one.PreviousAt(u.ports.Now()) != nil && u.ports.Types[one.Type].OffersPrevious(*one) {
			u.summarize(r, one, &found)
			found.addLate(one)
			if u.forgot(r, one) {
				found.unknown = append(found.unknown, name+" (the engine has forgotten readers, because there are too many)")
			}
		}
	}
	return found.sentence(u.inWords(found.late))
}

// summary is what is known of the use of previous values, by secret.
type summary struct {
	used, unused, unknown []string
	// readers are those of the role, and late those of them who have one of the values.
	readers Readers
	late    []Late
	// names are those of the secrets that somebody depends on.
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

// addLate adds the readers who have the previous value of s, and not the current one.
func (d *summary) addLate(s *rotation.Secret) {
	for _, reader := range d.readers.Late {
		if !slices.Contains(reader.Secrets, s.Name) {
			continue
		}
		if !slices.ContainsFunc(d.late, func(other Late) bool { return other.Reader == reader.Reader }) {
			d.late = append(d.late, reader)
		}
		if !slices.Contains(d.names, s.Name) {
			d.names = append(d.names, s.Name)
		}
	}
}

// maxNamed is how many readers a sentence names.
const maxNamed = 10

// inWords says who is late, one by one as long as they are few.
func (u *Usage) inWords(late []Late) (words []string) {
	for i, one := range late[:min(len(late), maxNamed)] {
		one.Reader = u.named(i, one.Reader)
		words = append(words, one.String())
	}
	if more := len(late) - maxNamed; more > 0 {
		words = append(words, fmt.Sprintf("and %d more readers", more))
	}
	return words
}

// named gives the i-th reader of a list the name of its entity, which tells more than the
// one by which it has logged in. Vault is asked for those only who are to be named.
func (u *Usage) named(i int, by Reader) Reader {
	if i < maxNamed {
		by.Name = cmp.Or(u.ports.EntityName(by.EntityID), by.Name)
	}
	return by
}

// usedLately is who depends on a value that is used through this engine.
const usedLately = "somebody who has used the previous value lately"

// Dependents says who still depends on the previous value of s, apart from open sessions:
// each reader who has it and has not read the current one, and who uses it through this
// engine, if that was lately. It says the same of the same readers, so that whoever was told
// of them is not told again. It is nil if nobody is known.
func (u *Usage) Dependents(r *rotation.Role, s *rotation.Secret) []string {
	t := u.ports.Types[s.Type]
	if t == nil || s.Previous == nil || !t.OffersPrevious(*s) {
		return nil
	}
	var found []string
	if !u.taken(r.Key) {
		found = append(found, "readers whom the engine has not loaded yet")
	}
	if u.forgot(r, s) {
		found = append(found, "readers whom the engine has forgotten, because there are too many")
	}
	if u.usedLately(r, s) {
		found = append(found, usedLately)
	}
	for _, one := range u.Readers(r).Late {
		if slices.Contains(one.Secrets, s.Name) {
			found = append(found, fmt.Sprintf("%s, has version %d", u.named(len(found), one.Reader), one.Version))
		}
	}
	return found
}

// usedLately reports whether the previous value of s was used lately. A node that has not
// counted for that long goes by what was seen before it.
func (u *Usage) usedLately(r *rotation.Role, s *rotation.Secret) bool {
	uses, counted := u.Uses(r, s, secret.StagePrevious)
	now, lately := u.ports.Now(), max(time.Minute, r.Snapshot().Resolved.RefreshInterval)
	if now.Sub(uses.Last) <= lately {
		return true
	}
	return (!counted || now.Sub(uses.Since) < lately) && slices.Contains(s.Previous.WaitsFor, usedLately)
}

func (d *summary) sentence(late []string) string {
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
	if len(parts) == 0 {
		return ""
	}
	if d.readers.Known > 0 {
		parts = append(parts, fmt.Sprintf("Readers that have the current version: %d of %d", d.readers.Current, d.readers.Known))
	}
	if len(d.late) > 0 {
		parts = append(parts, "Late: "+strings.Join(late, "; "))
	}
	switch {
	case len(d.names) > 0:
		parts = append(parts, "Ending the overlap now would cut off those who use the previous values of "+strings.Join(d.names, ", "))
	case len(d.unknown) == 0:
		parts = append(parts, "Ending the overlap now would cut off nobody that the engine sees")
	}
	return strings.Join(parts, ". ")
}

// clock is how a sentence tells a time.
func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }
