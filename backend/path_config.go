package backend

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
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
			logical.DeleteOperation: mutation(b.pathConfigDelete, "Put the defaults of all fields back.", nil),
		},
		HelpSynopsis:    "Configure the mount: defaults for its roles, and where values may go.",
		HelpDescription: oneLine(configHelp),
	}
}

func configFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"environment":        field(framework.TypeString, "Label of the environment, such as production. The engine puts it into every history record and event."),
		"rotation_period":    field(framework.TypeDurationSecond, "For roles that set neither rotation_period nor rotation_schedule: time between two automatic rotations; 90 days by default, at least 60 s."),
		"overlap":            field(framework.TypeDurationSecond, "For roles that set no overlap: how long previous values stay valid after a rotation; 24 h by default. For a role whose rotations are less than twice that time apart, it is half the time between two rotations."),
		"overlap_limit":      field(framework.TypeDurationSecond, "For roles that set no overlap_limit: how long previous values stay valid at most, while somebody still needs them; at most the time between two rotations. 0, the default: no longer than the overlap."),
		"refresh_interval":   field(framework.TypeDurationSecond, "For roles that set no refresh_interval: how often applications read creds again; 5 min by default. The refresh_interval of a role is at most half its overlap."),
		"retry_interval":     field(framework.TypeDurationSecond, "For roles that set no retry_interval: pause after the first failed automatic rotation; 10 s by default. It doubles with each failure, up to an hour."),
		"max_retries":        field(framework.TypeInt, "For roles that set no max_retries: how many automatic rotations may fail in a row; 8 by default. After one more, automatic rotation of the role stops until somebody rotates it manually."),
		"max_workers":        field(framework.TypeInt, "How many automatic rotations may run at the same time among roles that use the same connections; 8 by default, at most 64. Roles that use other connections have a queue of their own, so they do not wait for a server that hangs."),
		"history_retention":  field(framework.TypeInt, "How many history entries the engine keeps for each role and connection, not counting notes of people; 1000 by default, at least 10. When there are over a tenth more, and at least six more, it drops the oldest, at most 1000 at a time, and records this in an entry of kind prune."),
		"history_max_age":    field(framework.TypeDurationSecond, "How long the engine keeps history entries of each role and connection; at least a day. 0, the default, means for ever. The newest ten always stay, not counting notes."),
		"probe_interval":     field(framework.TypeDurationSecond, "How often the engine tries every stored login, to notice servers that refuse it; an hour by default, from a minute to 30 days. It tries at most one login a second, so with more than 3600 logins a round takes longer than an hour. After a start, or when the server behind a connection is another one, it tries the logins at once, up to ten roles a second."),
		"on_drift":           {Type: framework.TypeString, AllowedValues: []any{settings.Report, settings.Repair}, Description: "What the engine does when a PostgreSQL server refuses a stored login of a role. report, the default: it sends the event target_refuses, and status says what to do. repair: it also sets the stored value again, even over a password that somebody changed on purpose."},
		"tripwire_retention": field(framework.TypeDurationSecond, "How long the engine recognizes retired values; 90 days by default, at least an hour. It keeps their SHA-256 and, of keys that sign tokens, the kid, for the newest 1000 values of each role and connection, in at most 256 KiB. A retired API key or token that somebody verifies is then an event, and leaked finds retired values. 0 keeps nothing."),
		"outbound_hosts":     field(framework.TypeCommaStringSlice, "Hosts to which checks, alerts and destinations may send values and credentials; none by default. An entry is a host name, a pattern like *.example.com (all its subdomains) or an IP address, each with or without :port, or a network like 10.0.0.0/8. To allow an entry for one use only, write checks=, alerts= or destinations= before it: checks=orders.example.com. Other hosts get only requests without values and credentials. Link-local and metadata addresses get no requests at all. A write replaces the list."),
		"outbound_proxy":     field(framework.TypeString, "Address of an HTTP proxy for checks, alerts and destinations, like http://proxy.example.com:3128; none by default. Requests to localhost and to loopback addresses do not use it. The proxy resolves the host names, so a network in outbound_hosts then matches only URLs that contain an IP address. The engine resolves them too, but only to refuse addresses that it never sends to."),
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
	var before []string
	if err := b.configure(ctx, req, func(s *settings.Settings) error {
		before = s.OutboundHosts
		return takeSettings(d, s)
	}); err != nil {
		return nil, err
	}
	if _, given := d.GetOk("outbound_hosts"); !given {
		return nil, nil
	}
	return warned(b.warnUnsent(ctx, before), nil)
}

// pathConfigDelete corresponds to DELETE on config.
func (b *backend) pathConfigDelete(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	var before []string
	if err := b.configure(ctx, req, func(s *settings.Settings) error {
		before = s.OutboundHosts
		s.Reset()
		return nil
	}); err != nil {
		return nil, err
	}
	return warned(b.warnUnsent(ctx, before), nil)
}

// warnUnsent warns of checks, alerts and destinations that outbound_hosts, which is stored
// by now, keeps from being sent. Before is the list that it had before.
func (b *backend) warnUnsent(ctx context.Context, before []string) []string {
	refused, err := b.unsent(ctx)
	switch {
	case err != nil:
		return []string{fmt.Sprintf("config is stored. The engine could not look which checks, alerts and destinations outbound_hosts keeps from being sent (%v); verify says it for a role", err)}
	case len(refused) == 0:
		return nil
	}
	slices.Sort(refused)
	warning := fmt.Sprintf("the engine sends nothing for %s, because outbound_hosts does not name their hosts now. A role does not rotate if its check cannot be sent, unless the check has on_failure=alert", roles.Sample(refused))
	if len(before) > 0 {
		warning += ". To put the list from before back: " + preflight.Command("vault", "write", b.mountPath()+"config", "outbound_hosts="+strings.Join(before, ",")).String()
	}
	return []string{warning}
}

// unsent lists the checks, alerts and destinations that outbound_hosts keeps from being sent.
func (b *backend) unsent(ctx context.Context) (refused []string, err error) {
	s, err := b.settings.Load(ctx)
	if err != nil {
		return nil, err
	}
	note := func(use, path string, standing func(outbound.Rule) string) error {
		rule, err := s.Rule(use, b.mountPath())
		if err == nil && standing(rule) == outbound.Refused {
			refused = append(refused, path)
		}
		return err
	}
	for _, r := range b.registry.Loaded() {
		for name, stored := range r.Snapshot().Checks {
			if c, err := check.Decode(stored); err == nil { // what is damaged, verify tells
				if err := note(outbound.ForChecks, "checks/"+r.Name+"/"+name, c.Standing); err != nil {
					return nil, err
				}
			}
		}
	}
	alerts, err := b.alerts.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range alerts {
		if a.Config != nil {
			if err := note(outbound.ForAlerts, "alerts/"+a.Name, a.Config.Standing); err != nil {
				return nil, err
			}
		}
	}
	names, err := b.destinations.List(ctx)
	if err != nil {
		return nil, err
	}
	known, err := b.destinations.Named(ctx, names)
	if err != nil {
		return nil, err
	}
	for name, c := range known {
		if err := note(outbound.ForDestinations, "destinations/"+name, c.Standing); err != nil {
			return nil, err
		}
	}
	return refused, nil
}

// configure changes the configuration of the mount, and has everybody go by it.
func (b *backend) configure(ctx context.Context, req *logical.Request, change func(*settings.Settings) error) error {
	b.configuring.Lock()
	defer b.configuring.Unlock()
	if err := b.settings.Change(ctx, b.configureRecord(req), change); err != nil {
		return err
	}
	for _, role := range b.registry.Loaded() {
		if err := role.Refresh(); err != nil {
			return err
		}
		b.scheduler.Plan(role)
	}
	b.destinations.Recheck("")
	b.drift.Wake()
	b.tripwire.RetentionChanged()
	return nil
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
	takeSeconds(d, "overlap_limit", &s.OverlapLimit)
	if v, ok := d.GetOk("tripwire_retention"); ok {
		kept := time.Duration(v.(int)) * time.Second
		s.TripwireRetention = &kept
	}
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
Contains the settings of the whole mount: a label of the environment, the defaults of
roles, how many roles rotate at the same time, how long histories may get, how often the
engine tries stored logins, and which hosts may get values and credentials. No host gets
values or credentials until outbound_hosts names it. Every field is optional. A write
changes only the fields that it contains. Deleting config puts the defaults of all
fields back. config/history records both.`
