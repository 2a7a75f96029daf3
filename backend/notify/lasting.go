package notify

import (
	"context"
	"slices"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
)

// Lasting is an event that a sink shows for as long as it holds. An Alertmanager is
// sent it again and again, because it forgets everything when it restarts, and resolves
// what it is not sent again.
type Lasting struct {
	Event Event `json:"event"`
	// Until is when an event counts as over that nothing ends; zero for what lasts as
	// long as it is the case.
	Until time.Time `json:"until,omitzero"`
}

// conditions are the events of what is the case, and is over when it is not.
var conditions = []string{NeedsAttention, RotationOverdue, RotationDueSoon, DestinationFailed, DestinationDrifted, TargetRefuses, SecretUnresolved, OverlapWaiting, RetiredValueAccepted}

// Lasts returns an event as one that lasts; false if it does not.
func (e Event) Lasts(now time.Time) (Lasting, bool) {
	switch {
	case slices.Contains(conditions, e.Event):
		return Lasting{Event: e}, true
	case slices.Contains(ends[RotationCompleted], e.Event):
		return Lasting{Event: e, Until: later(e.Time, now).Add(otherFires)}, true
	}
	return Lasting{}, false
}

// Same reports whether both are the same alert to an Alertmanager.
func (l Lasting) Same(other Lasting) bool {
	return l.Event.Event == other.Event.Event && l.Event.Destination == other.Event.Destination && l.Event.Environment == other.Event.Environment
}

// EndedBy reports whether an event puts an end to it by itself.
func (l Lasting) EndedBy(e Event) bool {
	return slices.Contains(ends[e.Event], l.Event.Event) && (e.Event != DestinationRestored || l.Event.Destination == e.Destination)
}

// Remind sends an Alertmanager what lasts, and what does not any more, as Send does.
func (c Config) Remind(ctx context.Context, rule outbound.Rule, lasting, ended []Lasting, now time.Time) error {
	var all []alert
	for _, l := range lasting {
		all = append(all, l.Event.firing(now))
	}
	for _, l := range ended {
		a := l.Event.firing(now)
		a.StartsAt, a.EndsAt = earlier(a.StartsAt, now), now
		all = append(all, a)
	}
	return c.post(ctx, rule, all[0].Annotations["event_id"], all, now)
}
