package notify

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// pending returns the next events of a role and the cursor after them: those of one
// entry of the history at a time, and then those of the current state.
func (d *dispatcher) pending(r *rotation.Role, at cursor) ([]Event, cursor, error) {
	s := r.Snapshot()
	entries, err := r.Since(d.ctx, at.Sequence, 1)
	if err != nil {
		return nil, at, err
	}
	if len(entries) == 0 {
		events := d.stateEvents(r, s, &at)
		retired, err := d.retiredEvents(r, &at)
		return d.wanted(r, append(events, retired...)), at, err
	}
	rec, err := entries[0].Decode()
	if err != nil {
		return nil, at, err
	}
	latest := s.Latest()
	newest := latest != nil && latest.ID == rec.ID
	events := FromRecord(rec, newest && s.NeedsAttention)
	if at.Started == rec.ID {
		events = events[1:] // that it started was sent while it was in flight
	}
	if names := Repaired(rec); len(names) > 0 {
		if at.Refused != "" {
			events = nil // that they were refused was sent
		}
		at.Refused = refusalsOf(s, names).String()
	}
	at.Sequence = entries[0].Sequence
	return d.wanted(r, events), at, nil
}

// stateEvents returns the events for the current state, not yet sent.
func (d *dispatcher) stateEvents(r *rotation.Role, s *rotation.Snapshot, at *cursor) []Event {
	if op := s.InFlight; op != nil && op.Kind == rotation.KindRotate && at.Started != op.ID {
		at.Started = op.ID
		return []Event{Started(*op)}
	}
	due := unsent(d.timeEvents(r, s, d.ports.Now()), s.NextRotation, at)
	return slices.Concat(due, d.refusalEvents(r, s, at), d.unresolvedEvents(r, s, at), d.waitEvents(r, s, at))
}

// timeEvents returns the events that only time brings about.
func (d *dispatcher) timeEvents(r *rotation.Role, s *rotation.Snapshot, now time.Time) []Event {
	next := s.NextRotation
	if s.Deleted || !s.Policy.AutoRotate || next.IsZero() {
		return nil
	}
	var events []Event
	add := func(name, format string) {
		e := NewEvent(name, r.Key+"-"+next.Format(time.RFC3339), fmt.Sprintf(format, next.Format(time.RFC3339)))
		e.Time = now
		events = append(events, e)
	}
	if left := next.Sub(now); left > 0 && left <= d.config.Notice && d.config.Notice < s.Resolved.Interval {
		add(RotationDueSoon, "Secret rotation is due at %s")
	}
	if s.Overdue(now) {
		add(RotationOverdue, "Secret rotation was due at %s and has not happened")
	}
	return events
}

// unsent leaves out the events that the cursor says were sent of the rotation due then,
// and has it say that the others were.
func unsent(events []Event, due time.Time, at *cursor) []Event {
	return slices.DeleteFunc(events, func(e Event) bool {
		sent := &at.DueSoon
		if e.Event == RotationOverdue {
			sent = &at.Overdue
		}
		before := *sent
		*sent = due
		return before.Equal(due)
	})
}

// unresolvedEvents returns the event of the secrets that are unresolved now, or that
// none is any more, if that is not what was sent last.
func (d *dispatcher) unresolvedEvents(r *rotation.Role, s *rotation.Snapshot, at *cursor) []Event {
	before, now := at.Unresolved, strings.Join(s.Unresolved(), ",")
	if now == before {
		return nil
	}
	at.Unresolved = now
	e := NewEvent(SecretResolved, fmt.Sprintf("%s-%d-%s", r.Key, s.History.Count, before), "No secret is unresolved any more")
	if now != "" {
		e = NewEvent(SecretUnresolved, fmt.Sprintf("%s-%d-%s", r.Key, s.History.Count, now), d.ports.UnresolvedAdvice(r, s))
	}
	e.Time = d.ports.Now()
	return []Event{e}
}

// maxTold is after how many names a wait is not told again for further ones.
const maxTold = 100

// waitEvents returns the event that overlaps go on, if it was not sent yet for everybody
// who needs the previous values. Who comes and goes meanwhile is told of once.
func (d *dispatcher) waitEvents(r *rotation.Role, s *rotation.Snapshot, at *cursor) []Event {
	now := d.ports.Now()
	waits, told := s.Waits(now), at.Waiting
	if len(waits) == 0 {
		at.Waiting = nil
		return nil
	}
	for _, w := range waits {
		for _, name := range w.Who() {
			if id := waitID(w, name); !slices.Contains(at.Waiting, id) && len(at.Waiting) < maxTold {
				at.Waiting = append(slices.Clip(at.Waiting), id)
			}
		}
	}
	if len(at.Waiting) == len(told) {
		return nil
	}
	e := NewEvent(OverlapWaiting, r.Key+"-"+at.Waiting[len(at.Waiting)-1], "The overlap goes on, because somebody still needs previous values: "+rotation.WaitsText(waits))
	e.Time = now
	return []Event{e}
}

// waitID is what a cursor keeps of somebody who needs a previous value.
func waitID(w rotation.Wait, name string) string {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s/%d/%s", w.Secret, w.Version, name)
	return strconv.FormatUint(h.Sum64(), 36)
}
