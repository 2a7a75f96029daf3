package notify

import (
	"slices"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// remindAfter is how soon an Alertmanager is told again what lasts. Vault's timer, of a
// minute, makes it so; a change in between does not.
const remindAfter = 50 * time.Second

// lastingAfter is what lasts after an event was told.
func (c *courier) lastingAfter(lasting []Lasting, e Event) []Lasting {
	if c.config.Type != Alertmanager {
		return nil
	}
	lasting = slices.DeleteFunc(slices.Clone(lasting), func(l Lasting) bool { return l.EndedBy(e) })
	added, ok := e.Lasts(time.Now())
	if !ok {
		return lasting
	}
	return append(slices.DeleteFunc(lasting, added.Same), added)
}

// remind tells an Alertmanager again what lasts of a role, and at once what has begun
// to last or is over without an event that said so.
func (c *courier) remind(r *rotation.Role, at *cursor) error {
	if c.config.Type != Alertmanager {
		return nil
	}
	s, now := r.Snapshot(), c.ports.Now()
	next := *at
	next.Lasting = slices.Clone(at.Lasting)
	for _, e := range c.wanted(r, c.current(r, s, now)) {
		l, _ := e.Lasts(now)
		if !slices.ContainsFunc(next.Lasting, func(known Lasting) bool { return known.Event.Event == e.Event }) {
			next.Lasting = append(next.Lasting, l)
		}
	}
	var ended []Lasting
	next.Lasting = slices.DeleteFunc(next.Lasting, func(l Lasting) bool {
		over := c.over(r, s, l, next, now)
		if over {
			ended = append(ended, l)
		}
		return over
	})
	changed := !at.same(next)
	if len(next.Lasting)+len(ended) > 0 && (changed || now.Sub(c.reminded[r.Key]) >= remindAfter) {
		if err := c.ports.remind(c.ctx, c.config, next.Lasting, ended); err != nil {
			return err
		}
	}
	if changed {
		if err := c.keep(r, next); err != nil {
			return err
		}
	}
	*at = next
	c.setReminded(r, now, len(next.Lasting) > 0)
	return nil
}

// current returns the events of what is the case with a role now.
func (c *courier) current(r *rotation.Role, s *rotation.Snapshot, now time.Time) []Event {
	events := c.timely(r, s, now)
	if s.NeedsAttention && !s.Deleted {
		e := NewEvent(NeedsAttention, r.Key+"-"+s.LastRotation.Format(time.RFC3339), AttentionMessage)
		e.Time = now
		events = append(events, e)
	}
	return events
}

// over reports whether what lasted is not so any more.
func (c *courier) over(r *rotation.Role, s *rotation.Snapshot, l Lasting, at cursor, now time.Time) bool {
	if s.Deleted {
		return true
	}
	switch l.Event.Event {
	case DestinationFailed, DestinationDrifted:
		return !slices.Contains(s.Destinations, l.Event.Destination) || c.ports.InSync(c.ctx, l.Event.Destination, r)
	case TargetRefuses:
		return at.Refused == ""
	case SecretUnresolved:
		return at.Unresolved == ""
	case NeedsAttention, RotationOverdue, RotationDueSoon:
		return !slices.ContainsFunc(c.current(r, s, now), func(e Event) bool { return e.Event == l.Event.Event })
	}
	return !now.Before(l.Until)
}

// setReminded notes when a sink was told what lasts of a role, if anything does.
func (c *courier) setReminded(r *rotation.Role, now time.Time, lasts bool) {
	if !lasts {
		delete(c.reminded, r.Key)
	} else if now.Sub(c.reminded[r.Key]) >= remindAfter {
		c.reminded[r.Key] = now
	}
}
