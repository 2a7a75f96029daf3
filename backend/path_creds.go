package backend

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/usage"
)

func (b *backend) pathCreds() *framework.Path {
	return &framework.Path{
		Pattern:      optionalRole("creds"),
		DisplayAttrs: attributes("read", "default-role-credentials|role-credentials"),
		Fields:       credsFields(),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: operation(b.pathCredsRead, "Read all current values of a role, all of the same version.", credsHeader()),
		},
		HelpSynopsis:    "Read the current values of a role.",
		HelpDescription: oneLine(credsHelp),
	}
}

func (b *backend) pathCredsSecret() *framework.Path {
	fields := credsFields()
	fields["role"], fields["name"] = nameField("Name of the role."), nameField("Name of the secret.")
	return &framework.Path{
		Pattern:      "creds/" + framework.GenericNameRegex("role") + "/" + framework.GenericNameRegex("name"),
		DisplayAttrs: attributes("read", "secret-credentials"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: operation(b.pathCredsSecretRead, "Read the current value of one secret.", b.types.credsAnswer()),
		},
		HelpSynopsis:    "Read the current value of one secret of a role.",
		HelpDescription: oneLine(credsHelp),
	}
}

func credsFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"role":       field(framework.TypeString, "Name of the role; default if you leave it out of the path."),
		"stage":      {Type: framework.TypeString, Default: secret.StageCurrent, Query: true, Description: "Which values to read: current, or previous (during the overlap)."},
		"if_version": {Type: framework.TypeInt, Query: true, Description: "Version that you have. If it is still the role's version, the response has changed=false and no values."},
	}
}

// credsHeader declares what every answer has. For a role, the values come beside
// it under names that its secrets decide: <secret>_<field>.
func credsHeader() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"version":             field(framework.TypeInt, "Version of the role."),
		"last_vault_rotation": field(framework.TypeString, "When the version was committed."),
		"next_vault_rotation": field(framework.TypeString, "When the next automatic rotation starts; null if none is planned."),
		"rotation_period":     field(framework.TypeInt, "Seconds between two automatic rotations; with rotation_schedule, between two successive times of it."),
		"ttl":                 field(framework.TypeInt, "Seconds after which to read again."),
		"changed":             field(framework.TypeBool, "Only with if_version: whether the role now has another version."),
	}
}

// credsAnswer declares what one secret answers, whatever its type is.
func (t secretTypes) credsAnswer() map[string]*framework.FieldSchema {
	fields := credsHeader()
	for _, typeName := range t.names() {
		for _, answer := range t[typeName].Schema().Answers {
			help := typeName + ": " + answer.Help
			if other := fields[answer.Name]; other != nil {
				help = other.Description + " " + help
			}
			fields[answer.Name] = sensitive(help)
		}
	}
	return fields
}

// reading is one read of a role: one snapshot, one moment.
type reading struct {
	b     *backend
	role  *rotation.Role
	req   *logical.Request
	s     *rotation.Snapshot
	now   time.Time
	stage string
	// secret is the only one that is read; "" if all are.
	secret string
	// unless is the version the reader has already; zero if none.
	unless int
}

func (b *backend) newReading(ctx context.Context, req *logical.Request, d *framework.FieldData) (*reading, error) {
	r, err := b.findRole(ctx, roleName(d))
	if err != nil {
		return nil, err
	}
	rd := &reading{
		b: b, role: r, req: req, s: r.Snapshot(), now: b.now(),
		stage: d.Get("stage").(string), unless: d.Get("if_version").(int),
	}
	if rd.stage != secret.StageCurrent && rd.stage != secret.StagePrevious {
		return nil, rotation.Invalid("stage", "is %q; it must be current or previous", rd.stage)
	}
	return rd, nil
}

// pathCredsRead corresponds to READ on creds and creds/:role.
func (b *backend) pathCredsRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	rd, err := b.newReading(ctx, req, d)
	if err != nil {
		return nil, err
	}
	data := rd.header()
	if rd.unchanged(data) {
		return rd.answer(data)
	}
	found := false
	for _, name := range rd.s.Names() {
		fields, err := rd.values(rd.s.Secrets[name])
		if err != nil {
			return nil, err
		}
		for field, value := range fields {
			data[name+"_"+field], found = value, true
		}
	}
	if !found {
		return nil, rd.nothing()
	}
	return rd.answer(data)
}

// pathCredsSecretRead corresponds to READ on creds/:role/:secret.
func (b *backend) pathCredsSecretRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	rd, err := b.newReading(ctx, req, d)
	if err != nil {
		return nil, err
	}
	name := d.Get("name").(string)
	s := rd.s.Secrets[name]
	if s == nil {
		return nil, rotation.Invalid("name", "role %s has no secret %q; it has: %s. Write secrets/%s/%s to create it", rd.role.Name, name, cmp.Or(roles.Sample(rd.s.Names()), "none yet"), rd.role.Name, name)
	}
	rd.secret = name
	data := rd.header()
	if rd.unchanged(data) {
		return rd.answer(data)
	}
	fields, err := rd.values(s)
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, rd.nothing()
	}
	for field, value := range fields {
		data[field] = value
	}
	return rd.answer(data)
}

// answer notes who has read, and answers.
func (rd *reading) answer(data map[string]any) (*logical.Response, error) {
	if err := rd.note(); err != nil {
		return nil, err
	}
	if data["changed"] != false {
		rd.b.metrics.Read(rd.stage)
	}
	return &logical.Response{Data: data}, nil
}

// note has usage remember who has read; a reader that presents the current version has
// it. On a node that may not write, ErrReadOnly has Vault forward the request to the
// active node, which notes it: each read of previous values, and of current ones what
// usage says. This node never sees the answer to that. It remembers the reader at once:
// if the request is lost, the active node takes the reader for late, which is safe.
func (rd *reading) note() error {
	standby, previous := rd.b.standby.Load(), rd.stage == secret.StagePrevious
	switch {
	case previous && standby:
		return logical.ErrReadOnly
	case previous:
		rd.b.usage.ReadPrevious(rd.role, reader(rd.req), rd.secret, rd.now)
	case rd.b.usage.Read(rd.role, reader(rd.req), rd.secret, rd.s.Version, rd.now) && standby:
		return logical.ErrReadOnly
	}
	return nil
}

// reader is who makes a request.
func reader(req *logical.Request) usage.Reader {
	by := usage.Reader{EntityID: req.EntityID, Name: req.DisplayName}
	if req.Connection != nil {
		by.Address = req.Connection.RemoteAddr
	}
	return by
}

// header is what every answer has. Nothing in it but ttl may change between two
// rotations: Vault Secrets Operator restarts pods when anything else does.
func (rd *reading) header() map[string]any {
	made := rd.s.Memo("header", func() any { return rd.lasting() }).(lasting)
	data := make(map[string]any, answerSize)
	data["version"], data["rotation_period"] = rd.s.Version, made.period
	data["last_vault_rotation"], data["next_vault_rotation"] = made.last, made.next
	data["ttl"] = rotation.Seconds(rd.s.TTL(rd.now))
	return data
}

// answerSize is how many fields an answer has room for before it has to grow.
const answerSize = 32

// lasting is what of the header takes time to make, and is the same until the next
// rotation.
type lasting struct {
	period     int64
	last, next any
}

func (rd *reading) lasting() lasting {
	made := lasting{period: rotation.Seconds(rd.s.Resolved.IntervalAt(rd.s.Anchor)), last: timestamp(rd.s.LastRotation)}
	if rd.s.RotatesItself() {
		made.next = timestamp(rd.s.Planned())
	}
	return made
}

// unchanged completes the answer for a reader who says which version it has.
func (rd *reading) unchanged(data map[string]any) bool {
	if rd.unless == 0 {
		return false
	}
	data["changed"] = rd.unless != rd.s.Version
	return rd.unless == rd.s.Version
}

// values returns the fields of one secret in the stage that is read; none if it
// has no value in that stage that works.
func (rd *reading) values(s *rotation.Secret) (map[string]string, error) {
	t := rd.b.types[s.Type]
	previous := s.PreviousAt(rd.now)
	if previous != nil && !rd.s.Memo("offers/"+s.Name, func() any { return t.OffersPrevious(*s) }).(bool) {
		previous = nil
	}
	value := s.Current
	if rd.stage == secret.StagePrevious {
		value = previous
	}
	if value == nil {
		return nil, nil
	}
	key := "creds/" + s.Name + "/" + rd.stage
	if previous != nil {
		key += "/in overlap"
	}
	made, err := rd.s.Try(key, func() (any, error) { return rd.fields(t, s, value, previous) })
	if err != nil {
		return nil, fmt.Errorf("read secret %s of role %s: %w", s.Name, rd.role.Name, err)
	}
	return made.(map[string]string), nil
}

// fields makes the fields of a value, and of the previous one that is shown beside
// the current one. They are kept with the snapshot, and never changed.
func (rd *reading) fields(t secret.Type, s *rotation.Secret, value, previous *rotation.Value) (map[string]string, error) {
	fields, err := t.Fields(*s, value.Material)
	if err == nil && rd.stage == secret.StageCurrent && previous != nil {
		maps.Copy(fields, t.PreviousFields(previous.Material))
	}
	return fields, err
}

// nothing says why there is nothing to read, and what gives the role values.
func (rd *reading) nothing() error {
	if rd.stage == secret.StagePrevious {
		return rotation.Invalid("stage", "role %s has no previous value that works: the overlap has ended, nothing was rotated yet, or the old password of a single_user database ended with its rotation", rd.role.Name)
	}
	return rotation.Invalid("role", "role %s has no values yet; write secrets/%s/<name> to give it some", rd.role.Name, rd.role.Name)
}

// timestamp is how times are answered: RFC 3339 in UTC with whole seconds, or
// null for a time that has not come about.
func timestamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Truncate(time.Second).Format(time.RFC3339)
}

const credsHelp = `
Returns the values that work now, without a lease. For a role, it returns the fields of
all its secrets, all of the same version, under the names <secret>_<field>, such as
db_password. For one secret, it returns the fields without that prefix. Read again after
ttl seconds. ttl is the time to the next rotation, but at most the role's
refresh_interval, and at most 2 seconds while a rotation runs. With stage=previous, it
returns the values from before the last rotation, as long as they are valid. With
if_version, it returns values only if the role now has another version.`
