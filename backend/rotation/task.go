package rotation

import "strings"

// DestinationTask is what the names of tasks begin with that publish to a destination;
// then comes its name.
const DestinationTask = "destination/"

// Destination returns the name of the destination that a task publishes to.
func (t Task) Destination() (name string, ok bool) { return strings.CutPrefix(t.Name, DestinationTask) }

// Finding is what a task found or did at a destination apart from any rotation, or what
// an application answered that was asked to refuse a retired value.
type Finding string

// The findings.
const (
	// FoundUpdated: the destination was given the values.
	FoundUpdated Finding = "updated"
	// FoundFailing: it does not take them.
	FoundFailing Finding = "failing"
	// FoundDrifted: it holds something else than was published.
	FoundDrifted Finding = "drifted"
	// FoundRestored: it holds again what it should, after it failed or drifted.
	FoundRestored Finding = "restored"
	// FoundRefused: the application refused the retired values.
	FoundRefused Finding = "refused"
	// FoundAccepted: it accepted them.
	FoundAccepted Finding = "accepted"
	// FoundNothing: it gave no answer that shows one or the other.
	FoundNothing Finding = "not_shown"
)

// Explain puts a finding before its details, for people and for earlier versions, which
// know it by that only.
func (f Finding) Explain(detail string) string { return f.prefix() + detail }

func (f Finding) prefix() string {
	if f == FoundDrifted || f == FoundRestored {
		return string(f) + ": "
	}
	return ""
}

// Found returns the finding of a task in a KindPublish record, and its details. Records
// of earlier versions have both in Detail.
func (t Task) Found() (f Finding, detail string) {
	switch {
	case t.Finding != "":
		f = t.Finding
	case strings.HasPrefix(t.Detail, FoundDrifted.prefix()):
		f = FoundDrifted
	case t.Failed:
		f = FoundFailing
	case strings.HasPrefix(t.Detail, FoundRestored.prefix()):
		f = FoundRestored
	default:
		f = FoundUpdated
	}
	return f, strings.TrimPrefix(t.Detail, f.prefix())
}

// FailedTask is the first required task whose failure the operation rolls back. Records
// of earlier versions have its name in Reason only.
func (op Operation) FailedTask() string {
	if len(op.FailedTasks) > 0 {
		return op.FailedTasks[0]
	}
	if op.Trigger != TriggerCheck {
		return ""
	}
	name, _, _ := strings.Cut(op.Reason, ": ")
	return name
}
