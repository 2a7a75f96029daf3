package backend

import (
	"cmp"
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/settings"
)

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
	return map[string]*framework.FieldSchema{
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
		"on_drift":          {Type: framework.TypeString, AllowedValues: []any{settings.Report, settings.Repair}, Description: "What to do when a server refuses a stored login of a role: report it, the default, or repair it, by setting the stored value again. A stored value may be one that somebody has replaced on purpose."},
		"outbound_hosts":    field(framework.TypeCommaStringSlice, "Who may get values and credentials from checks, alerts and destinations: names, patterns like *.example.com, IP addresses, each with or without :port, and networks like 10.0.0.0/8, each for all three or for one, like checks=orders.example.com; nobody by default. Others get only what carries neither, and link-local and metadata addresses nothing at all. A write replaces the list."),
		"outbound_proxy":    field(framework.TypeString, "Address of an HTTP proxy that checks, alerts and destinations go through, like http://proxy.example.com:3128; none by default. What is of the machine that Vault runs on does not. With a proxy, names are compared with names only."),
	}
}

// pathConfigRead corresponds to READ on config.
func (b *backend) pathConfigRead(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	s, err := b.settings.Load(ctx)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: s.Fields()}, nil
}

// pathConfigWrite corresponds to UPDATE on config.
func (b *backend) pathConfigWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	b.configuring.Lock()
	defer b.configuring.Unlock()
	if err := b.settings.Change(ctx, b.configureRecord(req), func(s *settings.Settings) error { return takeSettings(d, s) }); err != nil {
		return nil, err
	}
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

// takeSettings takes over the fields that the request names.
func takeSettings(d *framework.FieldData, s *settings.Settings) error {
	if label := given(d, "environment"); label != nil {
		if err := checkLine("environment", *label); err != nil {
			return err
		}
		s.Environment = *label
	}
	takeString(d, "outbound_proxy", &s.OutboundProxy)
	if mode := given(d, "on_drift"); mode != nil {
		s.OnDrift = *mode
		if *mode == "" {
			return rotation.Invalid("on_drift", "is neither report nor repair")
		}
	}
	if v, ok := d.GetOk("outbound_hosts"); ok {
		s.OutboundHosts = append([]string{}, v.([]string)...)
	}
	takeSeconds(d, "history_max_age", &s.MaxAge)
	return cmp.Or(
		takeDuration(d, "rotation_period", &s.RotationPeriod),
		takeDuration(d, "overlap", &s.Overlap),
		takeDuration(d, "refresh_interval", &s.RefreshInterval),
		takeDuration(d, "retry_interval", &s.RetryInterval),
		takeDuration(d, "probe_interval", &s.ProbeInterval),
		takeInt(d, "max_retries", &s.MaxRetries, 1, 1000),
		takeInt(d, "max_workers", &s.MaxWorkers, 1, settings.MaxWorkers),
		takeInt(d, "history_retention", &s.Retention, settings.MinRetention, 1_000_000),
		s.Validate(),
	)
}

const configHelp = `
Holds the label of the environment, the defaults of roles, how many roles rotate
at the same time, how much history is kept, how stored logins are tried, and where
values and credentials may go: nowhere, unless outbound_hosts say so. Every field is optional; a write
changes only the fields it names, and is recorded in config/history.`
