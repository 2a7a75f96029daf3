// Package settings is the configuration of a mount: the defaults of its roles, where
// values may go, and the history of how that was changed.
package settings

import (
	"cmp"
	"fmt"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// The defaults of the mount, and the bounds of what may be set.
const (
	defaultWorkers   = 8
	MaxWorkers       = 64
	defaultRetention = 1000
	MinRetention     = 10
	minMaxAge        = 24 * time.Hour
	maxEnvironment   = 128

	defaultTripwire = 90 * 24 * time.Hour
	minTripwire     = time.Hour

	defaultProbeInterval = time.Hour
	minProbeInterval     = time.Minute
	maxProbeInterval     = 30 * 24 * time.Hour
)

// What to do when a server refuses a stored login, the values of OnDrift.
const (
	// Report tells it, and is the default.
	Report = "report"
	// Repair sets the stored value again.
	Repair = "repair"
)

// Settings are the configuration of the mount as stored. Zero means the default.
type Settings struct {
	Environment     string        `json:"environment,omitempty"`
	RotationPeriod  time.Duration `json:"rotation_period,omitempty"`
	Overlap         time.Duration `json:"overlap,omitempty"`
	OverlapLimit    time.Duration `json:"overlap_limit,omitempty"`
	RefreshInterval time.Duration `json:"refresh_interval,omitempty"`
	RetryInterval   time.Duration `json:"retry_interval,omitempty"`
	MaxRetries      int           `json:"max_retries,omitempty"`
	MaxWorkers      int           `json:"max_workers,omitempty"`
	Retention       int           `json:"history_retention,omitempty"`
	// OutboundHosts is nil as long as nobody has said.
	OutboundHosts []string      `json:"outbound_hosts,omitzero"`
	OutboundProxy string        `json:"outbound_proxy,omitempty"`
	MaxAge        time.Duration `json:"history_max_age,omitempty"`
	ProbeInterval time.Duration `json:"probe_interval,omitempty"`
	OnDrift       string        `json:"on_drift,omitempty"`
	// TripwireRetention is nil for the default, because zero keeps nothing.
	TripwireRetention *time.Duration `json:"tripwire_retention,omitempty"`
}

// Reset puts the defaults back. Where somebody has said which hosts requests may reach,
// that leaves none.
func (s *Settings) Reset() { *s = Settings{OutboundHosts: s.OutboundHosts[:0]} }

// Validate refuses, in the names of the fields of config, what can't be.
func (s *Settings) Validate() error {
	probe, overlap := s.Probes(), s.ForRotations().Defaults.Overlap
	switch {
	case len(s.Environment) > maxEnvironment:
		return rotation.Invalid("environment", "is %d bytes long; the limit is %d", len(s.Environment), maxEnvironment)
	case s.RotationPeriod != 0 && s.RotationPeriod < rotation.MinPeriod:
		return rotation.Invalid("rotation_period", "is %s; it must be %s or more", rotation.Span(s.RotationPeriod), rotation.Span(rotation.MinPeriod))
	case s.OverlapLimit != 0 && s.OverlapLimit < overlap:
		return rotation.Invalid("overlap_limit", "is %s; it must be at least the overlap, which is %s, or 0 for no longer than that", rotation.Span(s.OverlapLimit), rotation.Span(overlap))
	case s.MaxAge != 0 && (s.MaxAge < minMaxAge || s.MaxAge > rotation.MaxPeriod):
		return rotation.Invalid("history_max_age", "is %s; it must be a day or more, at most a hundred years, or 0 to keep history for ever", rotation.Span(s.MaxAge))
	case s.OnDrift != "" && s.OnDrift != Report && s.OnDrift != Repair:
		return rotation.Invalid("on_drift", "is %q; it must be %s or %s", s.OnDrift, Report, Repair)
	case s.Tripwire() != 0 && (s.Tripwire() < minTripwire || s.Tripwire() > rotation.MaxPeriod):
		return rotation.Invalid("tripwire_retention", "is %s; it must be an hour or more, at most a hundred years, or 0 to keep nothing of retired values", rotation.Span(s.Tripwire()))
	case probe < minProbeInterval || probe > maxProbeInterval:
		return rotation.Invalid("probe_interval", "is %s; it must be from %s to %s", rotation.Span(probe), rotation.Span(minProbeInterval), rotation.Span(maxProbeInterval))
	}
	return cmp.Or(s.validateOutbound(), rotation.CheckRetryInterval(s.RetryInterval))
}

// validateOutbound also brings the list of hosts into the form in which it is kept. A list
// that was ever written is never nil again, not even when it is empty.
func (s *Settings) validateOutbound() error {
	if s.OutboundHosts != nil {
		hosts, err := outbound.ParseHosts(s.OutboundHosts)
		if err != nil {
			return rotation.Invalid("outbound_hosts", "%v", err)
		}
		s.OutboundHosts = hosts.Texts()
	}
	if _, err := outbound.ParseProxy(s.OutboundProxy); err != nil {
		return rotation.Invalid("outbound_proxy", "%v", err)
	}
	return nil
}

// Fields are those of config, with the defaults in place. Their differences are what is
// recorded of a change, so they are all there, and without a secret.
func (s *Settings) Fields() map[string]any {
	d := s.ForRotations()
	return map[string]any{
		"environment":       s.Environment,
		"rotation_period":   rotation.Seconds(d.Defaults.Period),
		"overlap":           rotation.Seconds(d.Defaults.Overlap),
		"overlap_limit":     rotation.Seconds(s.OverlapLimit),
		"refresh_interval":  rotation.Seconds(d.Defaults.RefreshInterval),
		"retry_interval":    rotation.Seconds(d.Defaults.RetryInterval),
		"max_retries":       d.Defaults.MaxRetries,
		"max_workers":       s.Workers(),
		"history_retention": d.Retention,
		"outbound_hosts":    append([]string{}, s.OutboundHosts...),
		"outbound_proxy":    s.OutboundProxy,
		"history_max_age":   rotation.Seconds(d.MaxAge),
		"probe_interval":    rotation.Seconds(s.Probes()),
		"on_drift":          cmp.Or(s.OnDrift, Report),

		"tripwire_retention": rotation.Seconds(s.Tripwire()),
	}
}

// ForRotations is the part that rotations need, with the defaults in place.
func (s *Settings) ForRotations() rotation.Settings {
	return rotation.Settings{
		Environment: s.Environment,
		Retention:   cmp.Or(s.Retention, defaultRetention),
		MaxAge:      s.MaxAge,
		Defaults: rotation.Defaults{
			Period:          cmp.Or(s.RotationPeriod, rotation.DefaultPeriod),
			Overlap:         cmp.Or(s.Overlap, rotation.DefaultOverlap),
			OverlapLimit:    s.OverlapLimit,
			RefreshInterval: cmp.Or(s.RefreshInterval, rotation.DefaultRefreshInterval),
			RetryInterval:   cmp.Or(s.RetryInterval, rotation.DefaultRetryInterval),
			MaxRetries:      cmp.Or(s.MaxRetries, rotation.DefaultMaxRetries),
		},
	}
}

// Workers is how many roles of one queue may rotate by themselves at the same time.
func (s *Settings) Workers() int { return cmp.Or(s.MaxWorkers, defaultWorkers) }

// Probes is in what time every stored login is tried once.
func (s *Settings) Probes() time.Duration { return cmp.Or(s.ProbeInterval, defaultProbeInterval) }

// Tripwire is how long retired values are recognized; zero means not at all.
func (s *Settings) Tripwire() time.Duration {
	if s.TripwireRetention == nil {
		return defaultTripwire
	}
	return *s.TripwireRetention
}

// Rule is where requests of a use, like outbound.ForChecks, may go.
func (s *Settings) Rule(use, mount string) (outbound.Rule, error) {
	rule := outbound.Rule{Use: use, Mount: mount}
	var err error
	if s.OutboundHosts != nil {
		rule.Hosts, err = outbound.ParseHosts(s.OutboundHosts)
	}
	if err == nil {
		rule.Proxy, err = outbound.ParseProxy(s.OutboundProxy)
	}
	if err != nil {
		return outbound.Rule{}, fmt.Errorf("read where requests may go: %w", err)
	}
	return rule, nil
}
