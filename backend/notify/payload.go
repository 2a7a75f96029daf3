package notify

import (
	"fmt"
	"strings"
	"time"
)

// payload is what the sink takes.
func (c Config) payload(e Event, now time.Time) any {
	switch c.Type {
	case Slack:
		return map[string]string{"text": e.text()}
	case Alertmanager:
		return e.alerts(now)
	}
	e.Time = e.Time.UTC().Truncate(time.Second) // as the engine tells all times
	return e
}

// text is a line or two for a chat. What comes from a record is not markup.
func (e Event) text() string {
	plain := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
	mark := map[string]string{Info: "ℹ️", Warning: "⚠️", Critical: "🚨"}[e.Severity]
	line := fmt.Sprintf("%s *%s* role %s at %s", mark, strings.ReplaceAll(e.Event, "_", " "), plain(e.Role), plain(e.Mount))
	if e.Environment != "" {
		line += " (" + plain(e.Environment) + ")"
	}
	line += "\n" + plain(e.Message)
	if e.RotationID != "" {
		line += "\nrotation " + e.RotationID
	}
	return line
}

// How long alerts fire that nothing resolves.
const (
	infoFires  = time.Hour
	otherFires = 24 * time.Hour
)

// ends are, for each event, those that it puts an end to.
var ends = map[string][]string{
	RotationCompleted:   {RotationFailed, RotationRolledBack, ApplicationDegraded, RotationOverdue, NeedsAttention, RotationDueSoon},
	DestinationRestored: {DestinationFailed, DestinationDrifted},
	TargetAccepts:       {TargetRefuses},
	SecretResolved:      {SecretUnresolved},
}

// alert is postableAlert of the Alertmanager's API.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// firing is the event as an alert that fires. An alert is known by its labels, so these
// are the same for the next one of its kind.
func (e Event) firing(now time.Time) alert {
	fires := otherFires
	if e.Severity == Info {
		fires = infoFires
	}
	return alert{
		Labels:      e.labels(e.Event),
		Annotations: map[string]string{"summary": e.Message, "rotation_id": e.RotationID, "event_id": e.ID},
		StartsAt:    e.Time, EndsAt: later(e.Time, now).Add(fires),
	}
}

// alerts is the event as an alert, and what it resolves.
func (e Event) alerts(now time.Time) []alert {
	all := []alert{e.firing(now)}
	for _, name := range ends[e.Event] {
		all = append(all, alert{Labels: e.labels(name), StartsAt: e.Time, EndsAt: e.Time})
	}
	return all
}

func (e Event) labels(name string) map[string]string {
	labels := map[string]string{"alertname": name, "role": e.Role, "mount": e.Mount, "severity": severities[name], "service": "smvm"}
	if e.Environment != "" {
		labels["environment"] = e.Environment
	}
	if e.Destination != "" {
		labels["destination"] = e.Destination
	}
	if labels["severity"] == "" {
		labels["severity"] = e.Severity
	}
	return labels
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
