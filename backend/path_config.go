package backend

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// The defaults of the mount, and the bounds of what may be set.
const (
	defaultWorkers   = 8
	maxWorkers       = 64
	defaultRetention = 1000
	minRetention     = 10
	minMaxAge        = 24 * time.Hour
	maxEnvironment   = 128

	defaultProbeInterval = time.Hour
	minProbeInterval     = time.Minute
	maxProbeInterval     = 30 * 24 * time.Hour
)

// The values of on_drift.
const (
	driftReport = "report"
	driftRepair = "repair"
)

// settings is the mount's configuration as stored. Zero means the default.
type settings struct {
	Environment     string        `json:"environment,omitempty"`
	RotationPeriod  time.Duration `json:"rotation_period,omitempty"`
	Overlap         time.Duration `json:"overlap,omitempty"`
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
	// loaded tells what storage says from what is assumed until it was read.
	loaded bool
}

func (b *backend) pathConfig() *framework.Path {
	return &framework.Path{
		Pattern:      "config",
		DisplayAttrs: attributes("", "configuration"),
		Fields:       configFields(),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   operation(b.pathConfigRead, "Read the configuration of the mount.", configFields()),
			logical.UpdateOperation: mutation(b.pathConfigWrite, "Change the configuration of the mount.", nil),
		},
		HelpSynopsis:    "Configure what holds for all roles of this mount.",
		HelpDescription: oneLine(configHelp),
	}
}

func configFields() map[string]*framework.FieldSchema {
	fields := map[string]*framework.FieldSchema{
		"environment":       field(framework.TypeString, "Label that goes into every history record, such as production."),
		"rotation_period":   field(framework.TypeDurationSecond, "Period of roles that set neither a period nor a schedule; 90 days by default, at least 60 s."),
		"overlap":           field(framework.TypeDurationSecond, "Overlap of roles that set none; 24 h by default. A role never gets more than half its interval by default."),
		"refresh_interval":  field(framework.TypeDurationSecond, "How often applications are told to read again, where a role does not say; 5 min by default."),
		"retry_interval":    field(framework.TypeDurationSecond, "Pause after a role's first failed automatic rotation; it doubles with each failure, up to an hour. 10 s by default."),
		"max_retries":       field(framework.TypeInt, "How many automatic rotations of a role may fail in a row before it needs attention; 8 by default."),
		"max_workers":       field(framework.TypeInt, "How many of the roles that need the same connections rotate by themselves at the same time; 8 by default, at most 64. A server that hangs takes no worker from the roles of another."),
		"history_retention": field(framework.TypeInt, "How many history entries each role keeps; 1000 by default, at least 10. What is above it is dropped a tenth at a time, which leaves an entry."),
		"history_max_age":   field(framework.TypeDurationSecond, "For how long each role keeps them, apart from the newest ten; at least a day, 0, the default, for ever."),
		"probe_interval":    field(framework.TypeDurationSecond, "In what time every stored login is tried once, to notice servers that refuse it; an hour by default, from a minute to 30 days. At most one login a second is tried, so that with many it takes longer."),
		"on_drift":          {Type: framework.TypeString, AllowedValues: []any{driftReport, driftRepair}, Description: "What to do when a server refuses a stored login of a role: report it, the default, or repair it, by setting the stored value again. A stored value may be one that somebody has replaced on purpose."},
	}
	maps.Copy(fields, outboundFields())
	return fields
}

// pathConfigRead corresponds to READ on config.
func (b *backend) pathConfigRead(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	s, err := b.loadSettings(ctx)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: s.answer()}, nil
}

// answer is what the fields are, with the defaults in place. Its differences are
// what is recorded of a change, so it has every field, and no secret.
func (s *settings) answer() map[string]any {
	d := s.forRotations()
	return map[string]any{
		"environment":       s.Environment,
		"rotation_period":   seconds(d.Defaults.Period),
		"overlap":           seconds(d.Defaults.Overlap),
		"refresh_interval":  seconds(d.Defaults.RefreshInterval),
		"retry_interval":    seconds(d.Defaults.RetryInterval),
		"max_retries":       d.Defaults.MaxRetries,
		"max_workers":       s.workers(),
		"history_retention": d.Retention,
		"outbound_hosts":    append([]string{}, s.OutboundHosts...),
		"outbound_proxy":    s.OutboundProxy,
		"history_max_age":   seconds(d.MaxAge),
		"probe_interval":    seconds(s.probeInterval()),
		"on_drift":          cmp.Or(s.OnDrift, driftReport),
	}
}

// pathConfigWrite corresponds to UPDATE on config.
func (b *backend) pathConfigWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	b.configuring.Lock()
	defer b.configuring.Unlock()
	changed, err := b.ledger.change(ctx, req, func(s *settings) error { return s.update(d) })
	if err != nil {
		return nil, err
	}
	b.settings.Store(changed)
	for _, role := range b.registry.Loaded() {
		if err := role.Refresh(); err != nil {
			return nil, err
		}
		b.scheduler.Plan(role)
	}
	b.destinations.Recheck("")
	b.drift.Wake()
	return nil, nil
}

// update takes over the fields that the request names.
func (s *settings) update(d *framework.FieldData) error {
	if v, ok := d.GetOk("environment"); ok {
		s.Environment = v.(string)
	}
	if len(s.Environment) > maxEnvironment {
		return rotation.Invalid("environment", "is %d bytes long; the limit is %d", len(s.Environment), maxEnvironment)
	}
	if v, ok := d.GetOk("environment"); ok {
		if err := checkLine("environment", v.(string)); err != nil {
			return err
		}
	}
	for name, target := range map[string]*time.Duration{
		"rotation_period": &s.RotationPeriod, "overlap": &s.Overlap,
		"refresh_interval": &s.RefreshInterval, "retry_interval": &s.RetryInterval,
	} {
		if err := takeDuration(d, name, target); err != nil {
			return err
		}
	}
	if s.RotationPeriod != 0 && s.RotationPeriod < minPeriod {
		return rotation.Invalid("rotation_period", "must be 60 seconds or more")
	}
	return cmp.Or(
		s.updateOutbound(d),
		checkRetryInterval(s.RetryInterval),
		takeInt(d, "max_retries", &s.MaxRetries, 1, 1000),
		takeInt(d, "max_workers", &s.MaxWorkers, 1, maxWorkers),
		takeInt(d, "history_retention", &s.Retention, minRetention, 1_000_000),
		takeMaxAge(d, &s.MaxAge),
		s.updateDrift(d),
	)
}

// takeMaxAge takes over the age that history may have if the request names it.
func takeMaxAge(d *framework.FieldData, target *time.Duration) error {
	v, ok := d.GetOk("history_max_age")
	if !ok {
		return nil
	}
	age := time.Duration(v.(int)) * time.Second
	if age != 0 && (age < minMaxAge || age > maxPeriod) {
		return rotation.Invalid("history_max_age", "is %d seconds; it must be a day, 86400 seconds, or more, at most a hundred years, or 0 to keep history for ever", v)
	}
	*target = age
	return nil
}

// takeDuration takes over a duration, in whole seconds, if the request names it.
func takeDuration(d *framework.FieldData, name string, target *time.Duration) error {
	v, ok := d.GetOk(name)
	if !ok {
		return nil
	}
	if v.(int) <= 0 {
		return rotation.Invalid(name, "is %d seconds; it must be more than zero", v)
	}
	*target = time.Duration(v.(int)) * time.Second
	return nil
}

// takeInt takes over a number if the request names it.
func takeInt(d *framework.FieldData, name string, target *int, lowest, highest int) error {
	v, ok := d.GetOk(name)
	if !ok {
		return nil
	}
	if v.(int) < lowest || v.(int) > highest {
		return rotation.Invalid(name, "is %d; it must be from %d to %d", v, lowest, highest)
	}
	*target = v.(int)
	return nil
}

// loadSettings returns the configuration, from storage the first time.
func (b *backend) loadSettings(ctx context.Context) (*settings, error) {
	assumed := b.settings.Load()
	if assumed.loaded {
		return assumed, nil
	}
	s := &settings{loaded: true}
	if _, err := (&store{b}).Read(ctx, configKey, s); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	b.settings.CompareAndSwap(assumed, s)
	return s, nil
}

// rotationSettings is the part that rotations need, with the defaults in place.
func (b *backend) rotationSettings() rotation.Settings { return b.settings.Load().forRotations() }

// forRotations is rotationSettings of s.
func (s *settings) forRotations() rotation.Settings {
	return rotation.Settings{
		Environment: s.Environment,
		Retention:   cmp.Or(s.Retention, defaultRetention),
		MaxAge:      s.MaxAge,
		Defaults: rotation.Defaults{
			Period:          cmp.Or(s.RotationPeriod, rotation.DefaultPeriod),
			Overlap:         cmp.Or(s.Overlap, rotation.DefaultOverlap),
			RefreshInterval: cmp.Or(s.RefreshInterval, rotation.DefaultRefreshInterval),
			RetryInterval:   cmp.Or(s.RetryInterval, rotation.DefaultRetryInterval),
			MaxRetries:      cmp.Or(s.MaxRetries, rotation.DefaultMaxRetries),
		},
	}
}

// workers is how many roles of one queue may rotate by themselves at the same time.
func (b *backend) workers() int { return b.settings.Load().workers() }

func (s *settings) workers() int { return cmp.Or(s.MaxWorkers, defaultWorkers) }

// updateDrift takes over the fields that say how stored logins are tried.
func (s *settings) updateDrift(d *framework.FieldData) error {
	if v, ok := d.GetOk("on_drift"); ok {
		if v != driftReport && v != driftRepair {
			return rotation.Invalid("on_drift", "is neither report nor repair")
		}
		s.OnDrift = v.(string)
	}
	if err := takeDuration(d, "probe_interval", &s.ProbeInterval); err != nil {
		return err
	}
	if p := s.probeInterval(); p < minProbeInterval || p > maxProbeInterval {
		return rotation.Invalid("probe_interval", "is %d seconds; it must be from %d to %d", seconds(p), seconds(minProbeInterval), seconds(maxProbeInterval))
	}
	return nil
}

func (s *settings) probeInterval() time.Duration {
	return cmp.Or(s.ProbeInterval, defaultProbeInterval)
}

// seconds is how durations are answered: as whole seconds.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

const configHelp = `
Holds the label of the environment, the defaults of roles, how many roles rotate
at the same time, how much history is kept, how stored logins are tried, and where
values and credentials may go: nowhere, unless outbound_hosts say so. Every field is optional; a write
changes only the fields it names, and is recorded in config/history.`
