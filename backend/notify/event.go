// Package notify sends events of a role's life, as the manual procedure names them, to
// sinks by HTTP: a webhook, a chat, or an Alertmanager. Alerts says which events go to
// which sink; a dispatcher for each delivers them.
//
// An event follows from what is stored, so whoever is active next makes it again with
// the same id, by which a receiver recognizes it.
package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// The names of events.
const (
	RotationStarted     = "rotation_started"
	RotationCompleted   = "rotation_completed"
	RotationFailed      = "rotation_failed"
	RotationRolledBack  = "rotation_rolled_back"
	ApplicationDegraded = "application_degraded"
	OverlapWaiting      = "overlap_waiting"
	OverlapLimitReached = "overlap_limit_reached"
	// RetiredValueAccepted: an application does not refuse what was retired.
	RetiredValueAccepted = "retired_value_accepted"
	RotationDueSoon      = "rotation_due_soon"
	RotationOverdue      = "rotation_overdue"
	NeedsAttention       = "needs_attention"
	ClockAhead           = "clock_ahead"
	DestinationFailed    = "destination_failed"
	DestinationDrifted   = "destination_drifted"
	DestinationRestored  = "destination_restored"
	SecretUnresolved     = "secret_unresolved"
	SecretResolved       = "secret_resolved"
	TargetRefuses        = "target_refuses"
	TargetAccepts        = "target_accepts"
	RetiredValueUsed     = "retired_value_used"
	Deleted              = "deleted"
	// Test is sent by hand, to try a sink.
	Test = "test"
)

// AttentionMessage is the message of NeedsAttention.
const AttentionMessage = "Automatic rotation has stopped, and the role needs a person. Read status for what to do"

// The severities.
const (
	Info     = "info"
	Warning  = "warning"
	Critical = "critical"
)

// severities has every event that can be subscribed to.
var severities = map[string]string{
	RotationStarted: Info, RotationCompleted: Info, RotationFailed: Critical, RotationRolledBack: Warning,
	ApplicationDegraded: Warning, OverlapWaiting: Warning, OverlapLimitReached: Warning, RotationDueSoon: Info, RotationOverdue: Warning, NeedsAttention: Critical, ClockAhead: Warning,
	DestinationFailed: Warning, DestinationDrifted: Warning, DestinationRestored: Info,
	RetiredValueAccepted: Critical, SecretUnresolved: Critical, SecretResolved: Info, TargetRefuses: Critical, TargetAccepts: Info,
	RetiredValueUsed: Warning, Deleted: Warning,
}

// Names lists the events that can be subscribed to, in the order of a rotation.
func Names() []string {
	return []string{
		RotationDueSoon, RotationStarted, RotationCompleted, RotationFailed, RotationRolledBack,
		ApplicationDegraded, OverlapWaiting, OverlapLimitReached, RetiredValueAccepted, RotationOverdue, NeedsAttention, ClockAhead, DestinationFailed, DestinationDrifted, DestinationRestored,
		SecretUnresolved, SecretResolved, TargetRefuses, TargetAccepts, RetiredValueUsed, Deleted,
	}
}

// Event is one thing that happened to a role. It holds no secret.
type Event struct {
	// ID is the same whenever and by whomever this event is made.
	ID       string    `json:"id"`
	Event    string    `json:"event"`
	Severity string    `json:"severity"`
	Time     time.Time `json:"time"`
	// Mount is the engine's path, Role whose event it is.
	Mount       string `json:"mount"`
	Role        string `json:"role"`
	Environment string `json:"environment,omitempty"`
	// RotationID, Trigger and Version are those of the operation, if it is about one. All
	// events of a rotation have its id, also those of its checks and of a rollback by one.
	RotationID string `json:"rotation_id,omitempty"`
	Trigger    string `json:"trigger,omitempty"`
	Version    int    `json:"version,omitempty"`
	// Destination is the one that it is about, if it is about one.
	Destination string `json:"destination,omitempty"`
	// Message is for people.
	Message string `json:"message"`
}

// FromRecord returns the events that follow from a record of the role's history.
// Attention says that the role needs a person since.
func FromRecord(rec rotation.Record, attention bool) []Event {
	var events []Event
	about, trigger := rec.ID, rec.Trigger
	if rec.Follows != "" { // what is told is about that rotation
		about = rec.Follows
	}
	if rec.Kind == rotation.KindPostCommit {
		trigger = cmp.Or(rec.FollowsTrigger, trigger)
	}
	add := func(name, format string, args ...any) *Event {
		e := NewEvent(name, rec.ID, fmt.Sprintf(format, args...))
		e.Time = rec.Started.Add(time.Duration(rec.DurationMS) * time.Millisecond)
		e.RotationID, e.Trigger, e.Version, e.Environment = about, string(trigger), rec.Version, rec.Environment
		events = append(events, e)
		return &events[len(events)-1]
	}
	switch rec.Kind {
	case rotation.KindRotate:
		events = append(events, Started(rec.Operation))
		fromRotate(rec, add)
	case rotation.KindRollback:
		fromRollback(rec, add)
	case rotation.KindPostCommit:
		fromFollow(rec, add)
	case rotation.KindRetire:
		fromRetire(rec, add)
	case rotation.KindPublish:
		fromPublish(rec, add)
	case rotation.KindRepair:
		if names := Repaired(rec); len(names) > 0 {
			add(TargetRefuses, "The database refused the stored value of %s; the engine has set it again", strings.Join(names, ", "))
		}
	case rotation.KindDelete:
		add(Deleted, "%s", strings.Join(append([]string{deleted(rec)}, rec.Issues...), ": "))
	case rotation.KindConfigure:
		if rec.Trigger == rotation.TriggerRecovery {
			add(ClockAhead, "Stored times were corrected: %s", last(rec.Issues))
		}
	}
	if attention && rec.Outcome != rotation.OutcomeCompleted {
		add(NeedsAttention, AttentionMessage)
	}
	return events
}

// Started is the event of a rotation that is under way.
func Started(op rotation.Operation) Event {
	e := NewEvent(RotationStarted, op.ID, "Secret rotation started")
	e.Time, e.RotationID, e.Trigger = op.Started, op.ID, string(op.Trigger)
	return e
}

// connectionType is the type of the one secret of a connection.
const connectionType = "connection"

// deleted says what was.
func deleted(rec rotation.Record) string {
	switch {
	case len(rec.Results) == 0:
		return "The role was deleted"
	case rec.Results[0].Type == connectionType:
		return "The connection was deleted"
	}
	return "Secret " + rec.Results[0].Secret + " was deleted"
}

// adder makes an event, which may be amended before the next one is made.
type adder func(name, format string, args ...any) *Event

// about makes an event that is about a destination, with an id of its own.
func (add adder) about(name, destination, format string, args ...any) {
	e := add(name, format, args...)
	e.Destination = destination
	e.ID += "-" + destination
}

func fromRotate(rec rotation.Record, add adder) {
	switch rec.Outcome {
	case rotation.OutcomeCompleted:
		fromCommit(rec, add)
	case rotation.OutcomeRolledBack:
		add(RotationRolledBack, "Secret rotation was rolled back, and readers keep values that work: %s", last(rec.Issues))
	default:
		add(RotationFailed, "Secret rotation failed and %s - manual intervention may be required: %s", left(rec), last(rec.Issues))
	}
}

// left says what an operation that failed has left.
func left(rec rotation.Record) string {
	if names := rec.LeftUnresolved(); len(names) > 0 {
		return "left a value unresolved (status has the cause): secret " + strings.Join(names, ", ")
	}
	if rec.Outcome == rotation.OutcomeRolledBack {
		return "the engine put the targets back"
	}
	return "changed nothing"
}

// fromCommit tells of a rotation that nothing follows: what has failed before it, which
// did not keep it from beginning, or that all is well. Else fromFollow tells.
func fromCommit(rec rotation.Record, add adder) {
	if rec.Open() {
		return
	}
	degraded := false
	for _, t := range rec.Tasks {
		if t.Failed {
			degraded = true
			add(ApplicationDegraded, "Application degraded, and the rotation went on: %s: %s", t.Name, t.Detail)
		}
	}
	if !degraded {
		add(RotationCompleted, "Secret rotation completed successfully: version %d", rec.Version)
	}
}

func fromRollback(rec rotation.Record, add adder) {
	destination, ok := rotation.Task{Name: rec.FailedTask()}.Destination()
	switch {
	case rec.Outcome != rotation.OutcomeCompleted:
		add(RotationFailed, "A rollback failed and %s - manual intervention required: %s", left(rec), last(rec.Issues))
	case ok:
		add.about(DestinationFailed, destination, "A required destination did not accept the new values: %s", rec.Reason)
		add(RotationRolledBack, "The role is back on its previous values, as the new version %d", rec.Version)
	case rec.Trigger == rotation.TriggerCheck:
		add(ApplicationDegraded, "Application degraded after rotation: %s", rec.Reason)
		fallthrough
	default:
		add(RotationRolledBack, "The role is back on its previous values, as the new version %d", rec.Version)
	}
}

func fromFollow(rec rotation.Record, add adder) {
	degraded := false
	for _, t := range rec.Tasks {
		switch destination, ok := t.Destination(); {
		case t.Failed && ok:
			add.about(DestinationFailed, destination, "%s did not accept the new values: %s", t.Name, t.Detail)
		case t.Failed:
			degraded = true
			add(ApplicationDegraded, "Application degraded after rotation: %s: %s", t.Name, t.Detail)
		}
	}
	if !degraded && rec.Outcome == rotation.OutcomeCompleted && rec.FollowsKind == rotation.KindRotate {
		add(RotationCompleted, "Secret rotation completed successfully: version %d, with all steps after the commit", rec.Version)
	}
}

// fromRetire tells of values that were retired at the end of the longest overlap, of
// applications that accept a retired value, and of those that gave no answer that shows
// whether they do. Who cuts somebody off by hand knows it.
func fromRetire(rec rotation.Record, add adder) {
	var needed []string
	for _, r := range rec.Results {
		if len(r.NeededBy) > 0 && !r.Forced {
			needed = append(needed, fmt.Sprintf("secret %s, by: %s", r.Secret, strings.Join(r.NeededBy, ", ")))
		}
	}
	if len(needed) > 0 {
		add(OverlapLimitReached, "The longest overlap has ended, and the engine retired previous values that were still needed: %s", strings.Join(needed, "; "))
	}
	for _, t := range rec.Tasks {
		var e *Event
		secrets := strings.Join(t.Secrets, ", ")
		switch {
		case t.Finding == rotation.FoundAccepted:
			e = add(RetiredValueAccepted, "The application accepts the retired value of %s: %s: %s", secrets, t.Name, t.Detail)
		case t.Failed:
			e = add(ApplicationDegraded, "Application degraded: it did not show that it refuses the retired value of %s: %s: %s", secrets, t.Name, t.Detail)
		default:
			continue
		}
		e.ID += "-" + t.Name
	}
}

func fromPublish(rec rotation.Record, add adder) {
	for _, t := range rec.Tasks {
		destination, _ := t.Destination()
		switch found, detail := t.Found(); found {
		case rotation.FoundDrifted:
			add.about(DestinationDrifted, destination, "%s does not hold the published values: %s", t.Name, detail)
		case rotation.FoundFailing:
			add.about(DestinationFailed, destination, "%s does not accept the values: %s", t.Name, detail)
		case rotation.FoundRestored:
			add.about(DestinationRestored, destination, "%s holds the values again: %s", t.Name, detail)
		}
	}
}

// Repaired are the secrets that the engine has set again by itself, because their
// targets refused what is stored.
func Repaired(rec rotation.Record) []string {
	if rec.Trigger != rotation.TriggerDrift || rec.Outcome != rotation.OutcomeCompleted {
		return nil
	}
	var names []string
	for _, result := range rec.Results {
		if slices.ContainsFunc(result.Steps, func(s rotation.Step) bool { return s.Name == "set" }) {
			names = append(names, result.Secret)
		}
	}
	return names
}

// NewEvent is an event that is about the given thing, which makes its id.
func NewEvent(name, about, message string) Event {
	severity := severities[name]
	if severity == "" {
		severity = Info
	}
	return Event{ID: about + "-" + name, Event: name, Severity: severity, Message: message}
}

// last is the issue that a record ends with: why it did not complete.
func last(issues []string) string {
	if len(issues) == 0 {
		return "see the history"
	}
	return issues[len(issues)-1]
}
