// Package metrics is what Prometheus scrapes, of one mount and this process: counters
// begin again when another node becomes active, which Prometheus expects.
package metrics

import (
	"bytes"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Ports is what the package needs of others, whenever it is scraped.
type Ports struct {
	// Roles holds the roles and connections in memory.
	Roles interface{ Loaded() []*rotation.Role }
	// Refused reports whether a server rejects a login that is stored for r.
	Refused func(r *rotation.Role) bool
	// Readers counts the readers of r that have its current values, and those that are
	// late; ok is false where nothing is known of that.
	Readers func(r *rotation.Role) (current, late int, ok bool)
	// Queue counts the operations that are due and wait for a worker, and the busy workers.
	Queue func() (due, busy int)
	// Undelivered returns, by alert, how many roles have undelivered events.
	Undelivered func() map[string]int
	// Destinations gives, for each destination and state, how many roles' copies are in it.
	Destinations func(give func(destination, state string, roles int))
	// Now returns the time.
	Now func() time.Time
}

// Metrics counts what happens, and makes gauges when it is scraped.
type Metrics struct {
	registry   *prometheus.Registry
	operations *prometheus.CounterVec
	steps      *prometheus.HistogramVec
	reads      *prometheus.CounterVec
	retired    prometheus.Counter
}

// New returns the metrics of an engine of that version.
func New(version string, p Ports) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "smvm_operations_total", Help: "Operations that have ended, by kind, trigger and outcome.",
		}, []string{"kind", "trigger", "outcome"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "smvm_step_duration_seconds", Help: "Duration of the steps of operations, by step and type of secret.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"step", "type"}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "smvm_creds_reads_total", Help: "Answered reads of creds, by stage.",
		}, []string{"stage"}),
		retired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "smvm_retired_values_presented_total", Help: "Requests to verify a retired API key, or a token that names a retired key. The answer to each is that it is not valid.",
		}),
	}
	m.registry.MustRegister(m.operations, m.steps, m.reads, m.retired, collector{version, p})
	m.begin()
	return m
}

// begin makes the series whose increase is watched: one that begins with 1 has
// never increased.
func (m *Metrics) begin() {
	m.reads.WithLabelValues(secret.StageCurrent)
	for _, kind := range []rotation.Kind{rotation.KindRotate, rotation.KindRollback} {
		for _, trigger := range []rotation.Trigger{rotation.TriggerManual, rotation.TriggerSchedule, rotation.TriggerRecovery, rotation.TriggerCheck} {
			for _, outcome := range []rotation.Outcome{rotation.OutcomeCompleted, rotation.OutcomeRolledBack, rotation.OutcomeFailed} {
				m.operations.WithLabelValues(string(kind), string(trigger), string(outcome))
			}
		}
	}
}

// Recorded counts an operation that has ended.
func (m *Metrics) Recorded(rec rotation.Record) {
	m.operations.WithLabelValues(string(rec.Kind), string(rec.Trigger), string(rec.Outcome)).Inc()
	for _, result := range rec.Results {
		for _, step := range result.Steps {
			m.steps.WithLabelValues(step.Name, result.Type).Observe(float64(step.DurationMS) / 1000)
		}
	}
}

// Read counts an answered read of creds.
func (m *Metrics) Read(stage string) { m.reads.WithLabelValues(stage).Inc() }

// RetiredPresented counts a retired value that somebody asked to verify.
func (m *Metrics) RetiredPresented() { m.retired.Inc() }

// Text returns all metrics as text for Prometheus, and the media type of that.
func (m *Metrics) Text() (text []byte, contentType string, err error) {
	families, err := m.registry.Gather()
	if err != nil {
		return nil, "", fmt.Errorf("gather metrics: %w", err)
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	var out bytes.Buffer
	encoder := expfmt.NewEncoder(&out, format)
	for _, family := range families {
		if err := encoder.Encode(family); err != nil {
			return nil, "", fmt.Errorf("encode metrics: %w", err)
		}
	}
	return out.Bytes(), string(format), nil
}
