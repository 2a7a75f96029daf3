package backend

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// metrics are what Prometheus is told, of one mount and this process: counters
// begin again when another node becomes active, which Prometheus expects.
type metrics struct {
	b          *backend
	registry   *prometheus.Registry
	operations *prometheus.CounterVec
	steps      *prometheus.HistogramVec
	reads      *prometheus.CounterVec
}

// maxRoleSeries is how many roles have series of their own. With more, those that
// need somebody come first, and the rest is counted.
const maxRoleSeries = 1000

func newMetrics(b *backend) *metrics {
	m := &metrics{
		b: b, registry: prometheus.NewRegistry(),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "smvm_operations_total", Help: "Operations that have ended, by kind, trigger and outcome.",
		}, []string{"kind", "trigger", "outcome"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "smvm_step_duration_seconds", Help: "Time that the steps of operations took, by step and type of secret.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"step", "type"}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "smvm_creds_reads_total", Help: "Reads of creds that were answered, by stage.",
		}, []string{"stage"}),
	}
	m.registry.MustRegister(m.operations, m.steps, m.reads, roleCollector{b})
	m.begin()
	return m
}

// begin makes the series whose increase is watched: one that begins with 1 has
// never increased.
func (m *metrics) begin() {
	m.reads.WithLabelValues(secret.StageCurrent)
	for _, kind := range []rotation.Kind{rotation.KindRotate, rotation.KindRollback} {
		for _, trigger := range []rotation.Trigger{rotation.TriggerManual, rotation.TriggerSchedule, rotation.TriggerRecovery, rotation.TriggerCheck} {
			for _, outcome := range []rotation.Outcome{rotation.OutcomeCompleted, rotation.OutcomeRolledBack, rotation.OutcomeFailed} {
				m.operations.WithLabelValues(string(kind), string(trigger), string(outcome))
			}
		}
	}
}

// recorded counts an operation that has ended.
func (m *metrics) recorded(rec rotation.Record) {
	m.operations.WithLabelValues(string(rec.Kind), string(rec.Trigger), string(rec.Outcome)).Inc()
	for _, result := range rec.Results {
		for _, step := range result.Steps {
			m.steps.WithLabelValues(step.Name, result.Type).Observe(float64(step.DurationMS) / 1000)
		}
	}
}

// roleCollector makes gauges of what the roles are now, when it is asked.
type roleCollector struct{ b *backend }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// The gauges. Those of one role have its subject, role or connection, and name.
var (
	descInfo      = describe("smvm_build_info", "Always 1; the version of the engine.", "version")
	descSubjects  = describe("smvm_subjects", "Roles and connections that there are.", "subject")
	descStates    = describe("smvm_subjects_in_state", "Roles and connections that are overdue, need attention, have unresolved secrets, have failures, an operation in flight, something that follows one, previous values, or a login that the database refuses.", "subject", "state")
	descOmitted   = describe("smvm_subjects_without_series", "Roles and connections that are too many to have series of their own.")
	descLast      = describe("smvm_last_rotation_timestamp_seconds", "When the current version was committed.", "subject", "name")
	descNext      = describe("smvm_next_rotation_timestamp_seconds", "When the next automatic rotation is planned; none if there is no such series.", "subject", "name")
	descFailures  = describe("smvm_failures", "Automatic attempts that failed in a row.", "subject", "name")
	descAttention = describe("smvm_needs_attention", "1 if automatic rotation has stopped until somebody rotates by hand.", "subject", "name")
	descLeft      = describe("smvm_unresolved_secrets", "Secrets whose target may hold another value than the current one, and could not be put back.", "subject", "name")
	descOverdue   = describe("smvm_overdue", "1 if an automatic rotation should have started more than a minute ago.", "subject", "name")
	descOverlap   = describe("smvm_overlap_end_timestamp_seconds", "When the last previous value ends to be valid; none if there is no such series.", "subject", "name")
	descRefuses   = describe("smvm_target_refuses", "1 if the database refuses a login that is stored for the role or connection.", "subject", "name")
	descQueue     = describe("smvm_due", "Operations that are due and wait for a worker.")
	descWorkers   = describe("smvm_workers_busy", "Workers that are doing automatic operations.")
	descAlerts    = describe("smvm_alert_undelivered", "Roles that have something to tell that is not delivered.", "alert")
	descCopies    = describe("smvm_destination_roles", "Roles whose copies at a destination are in_sync, pending, drifted or failed.", "destination", "state")
)

// Describe implements prometheus.Collector.
func (roleCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descInfo, descSubjects, descStates, descOmitted, descLast, descNext, descFailures, descAttention,
		descLeft, descOverdue, descOverlap, descRefuses, descQueue, descWorkers, descAlerts, descCopies,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c roleCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descInfo, 1, version)
	due, busy := c.b.scheduler.Load()
	gauge(descQueue, float64(due))
	gauge(descWorkers, float64(busy))
	for name, waiting := range c.b.alerts.Undelivered() {
		gauge(descAlerts, float64(waiting), name)
	}
	for copies, count := range c.b.copies.census() {
		gauge(descCopies, float64(count), copies.destination, copies.state)
	}
	census := newCensus(c.b)
	for subject, count := range census.subjects {
		gauge(descSubjects, float64(count), subject)
	}
	for state, count := range census.states {
		gauge(descStates, float64(count), state[0], state[1])
	}
	gauge(descOmitted, float64(max(0, len(census.roles)-maxRoleSeries)))
	for _, r := range census.roles[:min(len(census.roles), maxRoleSeries)] {
		collectRole(gauge, r, len(c.b.drift.refused(r)) > 0, c.b.now())
	}
}

// collectRole makes the gauges of one role or connection.
func collectRole(gauge func(*prometheus.Desc, float64, ...string), r *rotation.Role, refused bool, now time.Time) {
	s, of := r.Snapshot(), []string{roles.Subject(r), r.Name}
	seconds := func(t time.Time) float64 { return float64(t.Unix()) }
	if !s.LastRotation.IsZero() {
		gauge(descLast, seconds(s.LastRotation), of...)
	}
	if s.Policy.AutoRotate && !s.NextRotation.IsZero() {
		gauge(descNext, seconds(s.NextRotation), of...)
	}
	if end := overlapEnd(s, now); !end.IsZero() {
		gauge(descOverlap, seconds(end), of...)
	}
	gauge(descFailures, float64(s.Failures), of...)
	gauge(descAttention, truth(s.NeedsAttention), of...)
	gauge(descLeft, float64(len(s.Unresolved())), of...)
	gauge(descOverdue, truth(s.Overdue(now)), of...)
	gauge(descRefuses, truth(refused), of...)
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
