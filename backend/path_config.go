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
		HelpSynopsis:    "Configure the mount: defaults for its roles, and where values may go.",
		HelpDescription: oneLine(configHelp),
	}
}

func configFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"environment":       field(framework.TypeString, "Label in every history record, such as production."),
		"rotation_period":   field(framework.TypeDurationSecond, "Time between two rotations of roles that set neither a period nor a schedule; 90 days by default, at least 60 s."),
		"overlap":           field(framework.TypeDurationSecond, "Overlap of roles that set none; 24 h by default. If half the time between two rotations of a role is shorter, the role gets that."),
		"refresh_interval":  field(framework.TypeDurationSecond, "How often applications read again, for roles that set no refresh_interval; 5 min by default."),
		"retry_interval":    field(framework.TypeDurationSecond, "Pause after a role's first failed automatic rotation; it doubles with each failure, up to an hour. 10 s by default."),
		"max_retries":       field(framework.TypeInt, "How many automatic rotations of a role may fail in a row before it needs attention; 8 by default."),
		"max_workers":       field(framework.TypeInt, "How many roles that need the same connections rotate on schedule at the same time; 8 by default, at most 64. If a server hangs, roles of other servers do not wait for it."),
		"history_retention": field(framework.TypeInt, "How many history entries each role keeps; 1000 by default, at least 10. The engine drops older entries, a tenth of this number at a time, and records that in an entry of kind prune."),
		"history_max_age":   field(framework.TypeDurationSecond, "How long each role keeps history entries; at least a day. 0, the default, keeps them for ever. The newest ten always stay."),
		"probe_interval":    field(framework.TypeDurationSecond, "Within this time the engine tries every stored login once, to notice servers that refuse it; an hour by default, from a minute to 30 days. It tries at most one login a second, so many logins take longer."),
		"on_drift":          {Type: framework.TypeString, AllowedValues: []any{settings.Report, settings.Repair}, Description: "What the engine does when a server refuses a stored login of a role: report, the default, or repair, which sets the stored value again. With repair, it also overwrites a password that somebody changed at the server on purpose."},
		"outbound_hosts":    field(framework.TypeCommaStringSlice, "Hosts to which checks, alerts and destinations may send values and credentials; none by default. An entry is a name, a pattern like *.example.com or an IP address, each with or without :port, or a network like 10.0.0.0/8. It holds for all three uses, or for one if it names that one, like checks=orders.example.com. Other hosts get only requests without values and credentials. Link-local and metadata addresses get nothing. A write replaces the list."),
		"outbound_proxy":    field(framework.TypeString, "Address of an HTTP proxy for checks, alerts and destinations, like http://proxy.example.com:3128; none by default. Requests to the machine that Vault runs on do not use it. With a proxy, the engine does not resolve names, so a network in outbound_hosts covers only requests to IP addresses."),
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
Sets what holds for the whole mount: the label of the environment, the defaults of
roles, how many roles rotate at the same time, how much history is kept, how often
stored logins are tried, and which hosts may get values and credentials. No host may,
until outbound_hosts names it. Every field is optional. A write changes only the fields
it names, and config/history records it.`
