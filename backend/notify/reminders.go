package notify

import (
	"slices"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// remindAfter is how long what lasts is not sent again to an Alertmanager: Vault's timer,
// of a minute, does it; a change in between does not.
const remindAfter = 50 * time.Second

// lastingAfter is what lasts after an event was sent.
func (d *dispatcher) lastingAfter(lasting []Lasting, e Event) []Lasting {
	if d.config.Type != Alertmanager {
		return nil
	}
	lasting = slices.DeleteFunc(slices.Clone(lasting), func(l Lasting) bool { return l.EndedBy(e) })
	added, ok := e.Lasts(time.Now())
	if !ok {
		return lasting
	}
	return append(slices.DeleteFunc(lasting, added.Same), added)
}

// remind sends an Alertmanager again what lasts of a role, and at once what has begun
// or is over without an event of its own.
func (d *dispatcher) remind(r *rotation.Role, at *cursor) error {
	if d.config.Type != Alertmanager {
		return nil
	}
	s, now := r.Snapshot(), d.ports.Now()
	next := *at
	next.Lasting = slices.Clone(at.Lasting)
	for _, e := range d.wanted(r, d.conditionEvents(r, s, now)) {
		l, _ := e.Lasts(now)
		if !slices.ContainsFunc(next.Lasting, func(known Lasting) bool { return known.Event.Event == e.Event }) {
			next.Lasting = append(next.Lasting, l)
		}
	}
	var ended []Lasting
	next.Lasting = slices.DeleteFunc(next.Lasting, func(l Lasting) bool {
		over := d.over(r, s, l, next, now)
		if over {
			ended = append(ended, l)
		}
		return over
	})
	changed := !at.equal(next)
	if len(next.Lasting)+len(ended) > 0 && (changed || now.Sub(d.reminded[r.Key]) >= remindAfter) {
		if err := d.sendLasting(next.Lasting, ended); err != nil {
			return err
		}
	}
	if changed {
		if err := d.saveCursor(r, next); err != nil {
			return err
		}
	}
	*at = next
	d.setReminded(r, now, len(next.Lasting) > 0)
	return nil
}

// sendLasting posts what lasts and what is over, as the rule of now allows.
func (d *dispatcher) sendLasting(lasting, ended []Lasting) error {
	rule, err := d.ports.Rule(d.ctx)
	if err != nil {
		return err
	}
	return d.config.Remind(d.ctx, rule, lasting, ended, time.Now())
}

// conditionEvents returns the events of the conditions that a role is in now.
func (d *dispatcher) conditionEvents(r *rotation.Role, s *rotation.Snapshot, now time.Time) []Event {
	events := d.timeEvents(r, s, now)
	if s.NeedsAttention && !s.Deleted {
		e := NewEvent(NeedsAttention, r.Key+"-"+s.LastRotation.Format(time.RFC3339), AttentionMessage)
		e.Time = now
		events = append(events, e)
	}
	return events
}

// over reports whether what lasted is not so any more.
func (d *dispatcher) over(r *rotation.Role, s *rotation.Snapshot, l Lasting, at cursor, now time.Time) bool {
	if s.Deleted {
		return true
	}
	switch l.Event.Event {
	case DestinationFailed, DestinationDrifted:
		return !slices.Contains(s.Destinations, l.Event.Destination) || d.ports.InSync(d.ctx, l.Event.Destination, r)
	case TargetRefuses:
		return at.Refused == ""
	case SecretUnresolved:
		return at.Unresolved == ""
	case RetiredValueAccepted:
		return !slices.ContainsFunc(s.Asked, func(a rotation.Asked) bool { return a.Finding == rotation.FoundAccepted })
	case OverlapWaiting:
		return len(at.Waiting) == 0
	case NeedsAttention, RotationOverdue, RotationDueSoon:
		return !slices.ContainsFunc(d.conditionEvents(r, s, now), func(e Event) bool { return e.Event == l.Event.Event })
	}
	return !now.Before(l.Until)
}

// setReminded keeps when a sink was sent what lasts of a role, if anything does.
func (d *dispatcher) setReminded(r *rotation.Role, now time.Time, lasts bool) {
	if !lasts {
		delete(d.reminded, r.Key)
	} else if now.Sub(d.reminded[r.Key]) >= remindAfter {
		d.reminded[r.Key] = now
	}
}
