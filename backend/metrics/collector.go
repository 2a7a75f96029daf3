package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// MaxRoleSeries is how many roles and connections have series of their own. With
// more, those that need action come first, and the rest is counted.
const MaxRoleSeries = 1000

// collector makes the gauges when it is asked, of what is the case then.
type collector struct {
	version string
	ports   Ports
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// The gauges. Those of one role have its subject, role or connection, and name.
var (
	descInfo      = describe("smvm_build_info", "Always 1; the label is the version of the engine.", "version")
	descSubjects  = describe("smvm_subjects", "Number of roles and connections.", "subject")
	descStates    = describe("smvm_subjects_in_state", "Number of roles and connections in a state: overdue, needs_attention (automatic rotation has stopped), unresolved (the target of a secret may hold a value other than the current one), failing, in_flight (an operation is under way), following (post-commit work is outstanding), overlap (previous values are still valid), overlap_waiting (an overlap goes on because somebody still needs previous values) or target_refuses (the database rejects a stored login).", "subject", "state")
	descOmitted   = describe("smvm_subjects_without_series", "Number of roles and connections that have no series of their own, because the limit is reached.")
	descLast      = describe("smvm_last_rotation_timestamp_seconds", "When the current version was committed.", "subject", "name")
	descNext      = describe("smvm_next_rotation_timestamp_seconds", "When the next automatic rotation is planned; no series if none is.", "subject", "name")
	descFailures  = describe("smvm_failures", "Consecutive failed automatic attempts.", "subject", "name")
	descAttention = describe("smvm_needs_attention", "1 if automatic rotation has stopped until somebody rotates by hand.", "subject", "name")
	descLeft      = describe("smvm_unresolved_secrets", "Secrets whose target may hold a value other than the current one, and could not be restored.", "subject", "name")
	descOverdue   = describe("smvm_overdue", "1 if an automatic rotation is more than a minute late.", "subject", "name")
	descOverlap   = describe("smvm_overlap_end_timestamp_seconds", "When the last previous value expires; no series if there is none.", "subject", "name")
	descWaiting   = describe("smvm_overlap_waiting", "1 if an overlap goes on because somebody still needs previous values.", "subject", "name")
	descRefuses   = describe("smvm_target_refuses", "1 if the database rejects a login that is stored for the role or connection.", "subject", "name")
	descReaders   = describe("smvm_readers", "Readers of creds of a role: current have the current value of each secret that they have read, late have a previous value in its overlap and have not read the current one.", "subject", "name", "state")
	descQueue     = describe("smvm_due", "Operations that are due and wait for a worker.")
	descWorkers   = describe("smvm_workers_busy", "Workers that are running automatic operations.")
	descAlerts    = describe("smvm_alert_undelivered", "Roles that have undelivered events, by alert.", "alert")
	descCopies    = describe("smvm_destination_roles", "Roles by destination, and by the state of their copies there: in_sync, pending, drifted or failed.", "destination", "state")
)

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descInfo, descSubjects, descStates, descOmitted, descLast, descNext, descFailures, descAttention,
		descLeft, descOverdue, descOverlap, descWaiting, descRefuses, descReaders, descQueue, descWorkers, descAlerts, descCopies,
	} {
		ch <- d
	}
}

// gauge sends one gauge.
type gauge func(d *prometheus.Desc, v float64, labels ...string)

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	var send gauge = func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	send(descInfo, 1, c.version)
	due, busy := c.ports.Queue()
	send(descQueue, float64(due))
	send(descWorkers, float64(busy))
	for alert, waiting := range c.ports.Undelivered() {
		send(descAlerts, float64(waiting), alert)
	}
	c.ports.Destinations(func(destination, state string, roles int) { send(descCopies, float64(roles), destination, state) })
	now := c.ports.Now()
	stats := newRoleStats(c.ports, now)
	for subject, count := range stats.subjects {
		send(descSubjects, float64(count), subject)
	}
	for state, count := range stats.states {
		send(descStates, float64(count), state[0], state[1])
	}
	send(descOmitted, float64(max(0, len(stats.roles)-MaxRoleSeries)))
	for _, r := range stats.roles[:min(len(stats.roles), MaxRoleSeries)] {
		collectRole(send, r, c.ports.Refused(r), now)
		if current, late, ok := c.ports.Readers(r); ok {
			send(descReaders, float64(current), roles.Subject(r), r.Name, "current")
			send(descReaders, float64(late), roles.Subject(r), r.Name, "late")
		}
	}
}

// collectRole sends the gauges of one role or connection.
func collectRole(send gauge, r *rotation.Role, refused bool, now time.Time) {
	s, of := r.Snapshot(), []string{roles.Subject(r), r.Name}
	seconds := func(t time.Time) float64 { return float64(t.Unix()) }
	if !s.LastRotation.IsZero() {
		send(descLast, seconds(s.LastRotation), of...)
	}
	if s.Policy.AutoRotate && !s.NextRotation.IsZero() {
		send(descNext, seconds(s.NextRotation), of...)
	}
	if end := overlapEnd(s, now); !end.IsZero() {
		send(descOverlap, seconds(end), of...)
	}
	send(descFailures, float64(s.Failures), of...)
	send(descAttention, truth(s.NeedsAttention), of...)
	send(descLeft, float64(len(s.Unresolved())), of...)
	send(descOverdue, truth(s.Overdue(now)), of...)
	send(descWaiting, truth(len(s.Waits(now)) > 0), of...)
	send(descRefuses, truth(refused), of...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// overlapEnd is when the last previous value of a role is retired.
func overlapEnd(s *rotation.Snapshot, now time.Time) time.Time {
	var end time.Time
	for _, secret := range s.Secrets {
		if previous := secret.PreviousAt(now); previous != nil && previous.RetireTime.After(end) {
			end = previous.RetireTime
		}
	}
	return end
}
