package notify

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// refusals are the secrets whose targets refuse what is stored, with the version of the
// current value.
type refusals map[string]int

// String is what a cursor keeps of them.
func (f refusals) String() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		all = append(all, fmt.Sprintf("%s=%d", name, f[name]))
	}
	return strings.Join(all, " ")
}

// parseRefusals reads what String wrote.
func parseRefusals(text string) refusals {
	found := refusals{}
	for _, one := range strings.Fields(text) {
		name, version, _ := strings.Cut(one, "=")
		found[name], _ = strconv.Atoi(version)
	}
	return found
}

// refusalsOf are those of the named secrets, by the versions of now.
func refusalsOf(s *rotation.Snapshot, names []string) refusals {
	found := refusals{}
	for _, name := range names {
		if secret := s.Secrets[name]; secret != nil && secret.Current != nil {
			found[name] = secret.Current.Version
		}
	}
	return found
}

// refusalEvents returns the event that a role's targets refuse what was not sent yet, or
// that nothing of what was sent is refused any more. A secret that was sent and not tried
// since the engine started counts as refused.
func (d *dispatcher) refusalEvents(r *rotation.Role, s *rotation.Snapshot, at *cursor) []Event {
	sent, now, more := parseRefusals(at.Refused), refusals{}, false
	for name, version := range sent {
		if !d.ports.Accepted(r, name, version) {
			now[name] = version
		}
	}
	for name, version := range d.ports.Refused(r) {
		more = more || sent[name] != version
		now[name] = version
	}
	about := fmt.Sprintf("%s-%d-", r.Key, s.History.Count)
	before := at.Refused
	at.Refused = now.String()
	var e Event
	switch {
	case more:
		e = NewEvent(TargetRefuses, about+at.Refused, "The database refuses stored values, so nobody can log in with them: "+d.ports.RefusedAdvice(r))
	case at.Refused == "" && before != "":
		e = NewEvent(TargetAccepts, about+before, "The database accepts the stored values again")
	default:
		return nil
	}
	e.Time = d.ports.Now()
	return []Event{e}
}
