package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/publish"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/schedule"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

func (b *backend) pathRoles() *framework.Path {
	return &framework.Path{
		Pattern:        "roles/" + framework.GenericNameRegex("role"),
		DisplayAttrs:   attributes("", "role"),
		Fields:         roleFields(),
		ExistenceCheck: b.pathRoleExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: mutation(b.pathRoleWrite, "Create or change a role. This rotates nothing.", nil),
			logical.UpdateOperation: mutation(b.pathRoleWrite, "Create or change a role. This rotates nothing.", nil),
			logical.ReadOperation:   operation(b.pathRoleRead, "Read a role.", roleAnswer()),
			logical.DeleteOperation: b.deletion(b.pathRoleExists, b.pathRoleDelete, "Delete a role that has no secrets."),
		},
		HelpSynopsis:    "Manage the roles. A role is one application's set of secrets, which rotate together.",
		HelpDescription: oneLine(roleHelp),
	}
}

func roleFields() map[string]*framework.FieldSchema {
	fields := map[string]*framework.FieldSchema{
		"role":             nameField("Name of the role."),
		"auto_rotate":      {Type: framework.TypeBool, Default: true, Description: "Whether the role rotates automatically, by rotation_period or rotation_schedule."},
		"overlap":          field(framework.TypeDurationSecond, "How long previous values stay valid after a rotation. By default, the overlap of config (24 h), but at most half the time between two rotations."),
		"overlap_limit":    field(framework.TypeDurationSecond, "How long previous values stay valid at most, while somebody still needs them: a reader that has not read the current values, somebody who has used a previous key or token lately, or an open session of the previous login. It is counted from the rotation, as the overlap is, and is at most the time between two rotations. The next automatic rotation ends the overlap in any case. With 0, the overlap_limit of config applies. By default that is as long as the overlap, so that nobody is waited for."),
		"refresh_interval": field(framework.TypeDurationSecond, "How often applications read creds again. Applications learn of a new interval when they read next, so it can take as long as the old interval until it applies. By default, the refresh_interval of config (5 min), but at most half the overlap."),
		"max_retries":      field(framework.TypeInt, "How many automatic rotations may fail in a row. After one more, automatic rotation stops until somebody rotates the role manually. By default, the max_retries of config (8)."),
		"destinations":     field(framework.TypeCommaStringSlice, "Names of the destinations that get copies of the role's values."),
		"retry_interval":   field(framework.TypeDurationSecond, "Pause after the first failed automatic rotation; it doubles with each failure, up to an hour. By default, the retry_interval of config (10 s)."),
	}
	for name, f := range scheduleFields() {
		fields[name] = f
	}
	return fields
}

func roleAnswer() map[string]*framework.FieldSchema {
	fields := roleFields()
	delete(fields, "role")
	fields["secrets"] = field(framework.TypeStringSlice, "Names of the role's secrets.")
	return fields
}

// findRole returns an existing role.
func (b *backend) findRole(ctx context.Context, name string) (*rotation.Role, error) {
	r, err := b.registry.Get(ctx, roles.Prefix, name)
	if err != nil {
		return nil, err
	}
	if r == nil || r.Snapshot().Deleted {
		return nil, rotation.Invalid("role", "unknown role: %q; there is: %s. Write roles/%s first", name, b.registry.Existing(ctx, roles.Prefix), name)
	}
	return r, nil
}

func (b *backend) pathRoleExists(ctx context.Context, _ *logical.Request, d *framework.FieldData) (bool, error) {
	r, err := b.registry.Get(ctx, roles.Prefix, d.Get("role").(string))
	return r != nil && !r.Snapshot().Deleted, err
}

// pathRoleWrite corresponds to CREATE and UPDATE on roles/:role.
func (b *backend) pathRoleWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	b.configuring.Lock()
	defer b.configuring.Unlock()
	if err := b.checkNew(ctx, roles.Prefix, "role", d); err != nil {
		return nil, err
	}
	r, err := b.registry.Obtain(ctx, roles.Prefix, d.Get("role").(string))
	if err != nil {
		return nil, err
	}
	known, err := b.destinations.Named(ctx, append(d.Get("destinations").([]string), r.Snapshot().Destinations...))
	if err != nil {
		return nil, err
	}
	var gone []string
	refreshed := r.Snapshot().Resolved.RefreshInterval
	if err := r.SetPolicy(ctx, b.configureRecord(req), func(draft *rotation.State) error {
		gone, err = b.takeRole(d, draft, r, known)
		return err
	}); err != nil {
		return nil, err
	}
	warnings := publish.Remains(r.Name, gone, known)
	if waiting := waits(r, b.now()); waiting != "" {
		warnings = append(warnings, waiting)
	}
	if s, named := r.Snapshot(), d.Raw["refresh_interval"] != nil; named && s.Resolved.RefreshInterval < refreshed && len(s.Secrets) > 0 {
		warnings = append(warnings, fmt.Sprintf("refresh_interval is %s now. Applications that have read before this read again after up to %s, as they were told then", rotation.Span(s.Resolved.RefreshInterval), rotation.Span(refreshed)))
	}
	if d.Raw["rotation_period"] != nil || d.Raw["rotation_schedule"] != nil || d.Raw["overlap"] != nil {
		warnings = append(warnings, b.shortened(r.Snapshot())...)
	}
	return warned(warnings, b.destinations.Leave(ctx, r.Name, gone))
}

// shortened warns of a refresh_interval that is shorter than what is configured, because
// the rotations of the role follow each other so soon.
func (b *backend) shortened(s *rotation.Snapshot) []string {
	wanted := cmp.Or(s.Policy.RefreshInterval, b.rotationSettings().Defaults.RefreshInterval)
	if s.Resolved.RefreshInterval >= wanted {
		return nil
	}
	return []string{fmt.Sprintf("with this, overlap is %s and refresh_interval %s: applications read that often, and one that does not fails when the overlap has ended", rotation.Span(s.Resolved.Overlap), rotation.Span(s.Resolved.RefreshInterval))}
}

// checkNew is checkAlike for a role or connection that the request makes; of one that
// exists it checks nothing.
func (b *backend) checkNew(ctx context.Context, prefix, field string, d *framework.FieldData) error {
	name := d.Get(field).(string)
	r, err := b.registry.Get(ctx, prefix, name)
	if err != nil || r != nil && !r.Snapshot().Deleted {
		return err
	}
	existing, err := b.registry.Names(ctx, prefix)
	if err != nil {
		return err
	}
	return checkAlike(field, name, existing)
}

// takeRole applies a request to the state of a role, and returns the destinations
// that it has no more.
func (b *backend) takeRole(d *framework.FieldData, s *rotation.State, r *rotation.Role, known map[string]*destination.Config) ([]string, error) {
	if s.Deleted {
		s.Policy = rotation.Policy{AutoRotate: true}
	}
	if err := b.takePolicy(d, &s.Policy, r.Key); err != nil {
		return nil, err
	}
	before := s.Destinations
	takeStrings(d, "destinations", &s.Destinations)
	resolved, err := s.Policy.Resolve(b.rotationSettings().Defaults, schedule.ParseCron, r.Key)
	if err != nil {
		return nil, err
	}
	if resolved.Overlap < r.Snapshot().Resolved.Overlap {
		if err := secret.CheckOverlap(b.types, r.Name, s, resolved.Overlap); err != nil {
			return nil, err
		}
	}
	return b.destinations.Admit(s, resolved.Overlap, r, before, known)
}

// pathRoleRead corresponds to READ on roles/:role.
func (b *backend) pathRoleRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.registry.Get(ctx, roles.Prefix, d.Get("role").(string))
	if err != nil || r == nil || r.Snapshot().Deleted {
		return nil, err
	}
	s := r.Snapshot()
	data := scheduleData(s.Policy, s.Resolved)
	data["auto_rotate"] = s.Policy.AutoRotate
	data["overlap"] = rotation.Seconds(s.Resolved.Overlap)
	data["overlap_limit"] = rotation.Seconds(s.Policy.OverlapLimit)
	if limit := s.Resolved.OverlapLimit; limit > s.Resolved.Overlap {
		data["overlap_limit"] = rotation.Seconds(limit)
	}
	data["refresh_interval"] = rotation.Seconds(s.Resolved.RefreshInterval)
	data["max_retries"] = s.Resolved.MaxRetries
	data["retry_interval"] = rotation.Seconds(s.Resolved.RetryInterval)
	data["secrets"], data["destinations"] = s.Names(), s.Destinations
	return &logical.Response{Data: data}, nil
}

// pathRoleDelete corresponds to DELETE on roles/:role.
func (b *backend) pathRoleDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.registry.Get(ctx, roles.Prefix, d.Get("role").(string))
	if err != nil || r == nil || r.Snapshot().Deleted {
		return nil, err
	}
	s := r.Snapshot()
	known, err := b.destinations.Named(ctx, s.Destinations)
	if err != nil {
		return nil, err
	}
	rec := b.newRecord(req, rotation.KindDelete, "", "")
	rec.Secrets, rec.Results = s.Names(), nil
	if op := s.InFlight; op != nil {
		rec.Issues = append(rec.Issues, fmt.Sprintf("%s %s was interrupted and will not be finished: the users in PostgreSQL may have the old passwords or the new ones", op.Kind, op.ID))
	}
	for _, name := range rec.Secrets {
		rec.Issues = append(rec.Issues, leftBehind(s.Secrets[name])...)
	}
	rec.Issues = append(rec.Issues, publish.Remains(r.Name, s.Destinations, known)...)
	if err := r.Delete(ctx, rec, b.withoutSecrets(r)); err != nil {
		return nil, unlessGone(err)
	}
	warnings := slices.Clone(rec.Issues)
	for _, secret := range s.Secrets {
		warnings = append(warnings, b.connections.Release(ctx, r.Name, secret)...)
	}
	return warned(warnings, b.destinations.Leave(ctx, r.Name, s.Destinations))
}

// withoutSecrets refuses to delete a role that has secrets: its application would lose all
// of them with one command. Only an operation that was interrupted, and that nobody may be
// able to finish, has the role go with them: it keeps them from being deleted.
func (b *backend) withoutSecrets(r *rotation.Role) func(*rotation.State) error {
	return func(s *rotation.State) error {
		names := s.Names()
		if len(names) == 0 || s.InFlight != nil {
			return nil
		}
		return rotation.Invalid("role", "%s has secrets: %s. Applications that use them would lose them. Delete the secrets first, each by: vault delete %ssecrets/%s/%s", r.Name, roles.Sample(names), b.mountPath(), r.Name, names[0])
	}
}

// unlessGone is err, unless another request has done the deletion meanwhile.
func unlessGone(err error) error {
	if errors.Is(err, rotation.ErrGone) {
		return nil
	}
	return err
}

// leftBehind says what a deleted secret leaves at its target.
func leftBehind(s *rotation.Secret) []string {
	if s.Type != databaseType {
		return nil
	}
	config, err := databaseConfig(s)
	if err != nil {
		return nil
	}
	return []string{"secret " + s.Name + ": PostgreSQL keeps the users " + roles.Sample(config.Usernames) + ", if they still exist, with the passwords they have; if nobody should use them, drop them or set other passwords"}
}

// takeSchedule takes over the fields that say when to rotate.
func takeSchedule(d *framework.FieldData, p *rotation.Policy) error {
	period, hasPeriod := d.GetOk("rotation_period")
	cron, hasSchedule := d.GetOk("rotation_schedule")
	window, hasWindow := d.GetOk("rotation_window")
	var err error
	switch {
	case hasPeriod && hasSchedule:
		return rotation.Invalid("rotation_period, rotation_schedule", "mutually exclusive fields rotation_period and rotation_schedule were both specified; only one of them can be provided")
	case hasPeriod:
		err = p.SetPeriod(time.Duration(period.(int)) * time.Second)
	case hasSchedule:
		err = p.SetSchedule(cron.(string), schedule.ParseCron)
	}
	if err != nil || !hasWindow {
		return err
	}
	return p.SetWindow(time.Duration(window.(int)) * time.Second)
}

// takePolicy takes over the fields of a role's policy and checks that they agree
// with each other and with the defaults of the mount.
func (b *backend) takePolicy(d *framework.FieldData, p *rotation.Policy, key string) error {
	takeBool(d, "auto_rotate", &p.AutoRotate)
	takeSeconds(d, "overlap_limit", &p.OverlapLimit)
	if err := cmp.Or(
		takeSchedule(d, p),
		takeDuration(d, "overlap", &p.Overlap),
		takeDuration(d, "refresh_interval", &p.RefreshInterval),
		takeDuration(d, "retry_interval", &p.RetryInterval),
		takeInt(d, "max_retries", &p.MaxRetries, 1, 1000),
		rotation.CheckRetryInterval(p.RetryInterval),
	); err != nil {
		return err
	}
	resolved, err := p.Resolve(b.rotationSettings().Defaults, schedule.ParseCron, key)
	if err != nil {
		return err
	}
	return resolved.Validate()
}

// scheduleFields declares the fields that say when to rotate.
func scheduleFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"rotation_period": field(framework.TypeDurationSecond, oneLine(`Time between two automatic rotations, at least 60 s.
			Rotations start up to 5 % of this (at most 30 s) early. How much depends on the name, so that roles created together do not rotate together.`)),
		"rotation_schedule": field(framework.TypeString, oneLine(`When to rotate, as the five fields of cron, in UTC.
			Rotations start up to 30 s late. How much depends on the name, so that roles with the same schedule do not rotate together.`)),
		"rotation_window": field(framework.TypeDurationSecond, oneLine(`With rotation_schedule: how long after a scheduled time a rotation may still start,
			at least an hour. After that, it waits for the next scheduled time. If left out, a late rotation starts as soon as it can.`)),
	}
}

// scheduleData answers the fields that say when to rotate: the one that is set.
func scheduleData(p rotation.Policy, t rotation.ResolvedPolicy) map[string]any {
	if p.Schedule == "" {
		return map[string]any{"rotation_period": rotation.Seconds(t.Period)}
	}
	data := map[string]any{"rotation_schedule": p.Schedule}
	if p.Window != 0 {
		data["rotation_window"] = rotation.Seconds(p.Window)
	}
	return data
}

func (b *backend) pathRoleList() *framework.Path {
	return &framework.Path{
		Pattern:      "roles/?$",
		DisplayAttrs: attributes("list", "roles"),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: operation(b.pathRoleListRead, "List the roles.", listFields()),
		},
		HelpSynopsis:    "List the roles.",
		HelpDescription: "Lists the names of the roles, with version, next rotation and errors.",
	}
}

// pathRoleListRead corresponds to LIST on roles.
func (b *backend) pathRoleListRead(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	return b.listSubjects(ctx, roles.Prefix)
}

// listSubjects lists roles or connections. One that can't be read is listed too,
// with the reason, and does not hide the others.
func (b *backend) listSubjects(ctx context.Context, prefix string) (*logical.Response, error) {
	stored, err := b.store.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var names []string
	info := map[string]any{}
	for _, name := range stored {
		r, err := b.registry.Get(ctx, prefix, name)
		switch {
		case err != nil:
			names = append(names, name)
			info[name] = map[string]any{"error": err.Error()}
		case r != nil && !r.Snapshot().Deleted:
			names = append(names, name)
			info[name] = b.rotationStatus(r)
		}
	}
	return listResponse(names, info), nil
}

const roleHelp = `
A role is one application's set of secrets, which rotate together, as one transaction.
It rotates every rotation_period or at the times of rotation_schedule. Without either,
it rotates every rotation_period of config, which is 90 days by default. Paths without
the name of a role, such as smvm/rotate, act on the role default. Before you delete a
role, delete its secrets; you can still read its history. One exception: if an operation
of the role was interrupted, so that its secrets cannot be deleted, deleting the role
deletes them too.`
