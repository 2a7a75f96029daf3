package main

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/smvm/vault-plugin-secrets-smvm/bootstrap/apps/go/smvmcreds"
)

// metrics are what /metrics answers.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	delay    prometheus.Histogram
}

func newMetrics(source *smvmcreds.Source) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "smvm_api_request_seconds", Help: "Time to answer a request.",
		}, []string{"route", "code"}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "smvm_api_credentials_delay_seconds", Buckets: []float64{1, 2, 5, 10, 30, 60, 150, 300, 600},
			Help: "Time from the commit of a new version (in whole seconds) to its use.",
		}),
	}
	version := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "smvm_api_credentials_version", Help: "Version of the credentials in use.",
	}, func() float64 { return float64(source.Current().Version) })
	failing := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "smvm_api_credentials_failed_reads", Help: "Reads of credentials in a row that did not succeed.",
	}, func() float64 { return float64(source.Failing()) })
	m.registry.MustRegister(m.requests, m.delay, version, failing)
	source.OnChange(func(_ context.Context, c *smvmcreds.Credentials) {
		if !c.LastRotation.IsZero() {
			m.delay.Observe(time.Since(c.LastRotation).Seconds())
		}
	})
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// count measures every request by route and status.
func (m *metrics) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		recorder := &recorder{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(recorder, r)
		m.requests.WithLabelValues(r.Pattern, strconv.Itoa(recorder.code)).Observe(time.Since(began).Seconds())
	})
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}
