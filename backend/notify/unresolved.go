package notify

import (
	"fmt"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// unresolved returns the event of the secrets that are unresolved now, if others were
// told, or that none is any more.
func (c *courier) unresolved(r *rotation.Role, s *rotation.Snapshot, at *cursor) []Event {
	before, now := at.Unresolved, strings.Join(s.Unresolved(), ",")
	if now == before {
		return nil
	}
	at.Unresolved = now
	e := NewEvent(SecretResolved, fmt.Sprintf("%s-%d-%s", r.Key, s.History.Count, before), "No secret is unresolved any more")
	if now != "" {
		e = NewEvent(SecretUnresolved, fmt.Sprintf("%s-%d-%s", r.Key, s.History.Count, now), c.ports.UnresolvedAdvice(r, s))
	}
	e.Time = c.ports.Now()
	return []Event{e}
}
