package backend

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// creationWait bounds how long creating a secret keeps its request waiting, and before
// that how long others that make or remove secrets of the role do.
const creationWait = 30 * time.Second

func (b *backend) pathSecrets() *framework.Path {
	return &framework.Path{
		Pattern:        "secrets/" + framework.GenericNameRegex("role") + "/" + framework.GenericNameRegex("name"),
		DisplayAttrs:   attributes("", "secret"),
		Fields:         b.types.fields(),
		ExistenceCheck: b.pathSecretExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: mutation(b.pathSecretCreate, "Create a secret with its first value, or change the configuration of a secret, whose value stays.", operationAnswer("role")),
			logical.UpdateOperation: mutation(b.pathSecretUpdate, "Create a secret with its first value, or change the configuration of a secret, whose value stays.", nil),
			logical.ReadOperation:   operation(b.pathSecretRead, "Read the configuration of a secret, without its value.", b.types.answer()),
			logical.DeleteOperation: b.deletion(b.pathSecretExists, b.pathSecretDelete, "Delete a secret and its values."),
		},
		HelpSynopsis:    "Manage the secrets of a role.",
		HelpDescription: oneLine(secretHelp),
	}
}

// fields are those of requests about secrets.
func (t secretTypes) fields() map[string]*framework.FieldSchema {
	fields := t.schema()
	fields["role"], fields["name"] = nameField("Name of the role."), nameField("Name of the secret within the role.")
	fields["type"] = field(framework.TypeString, "Type of the secret.")
	for _, name := range t.names() {
		fields["type"].AllowedValues = append(fields["type"].AllowedValues, name)
	}
	fields["skip_import_rotation"] = field(framework.TypeBool, "Whether the engine imports the value in the request, after testing that it works, instead of making a first value.")
	return fields
}

// answer is what reading a secret shows: its configuration, no value.
func (t secretTypes) answer() map[string]*framework.FieldSchema {
	fields := t.fields()
	for _, typeName := range t.names() {
		for _, name := range append(settingNames(t[typeName].Schema().Imports), "role", "name", "skip_import_rotation") {
			delete(fields, name)
		}
	}
	return fields
}

func (b *backend) pathSecretExists(ctx context.Context, _ *logical.Request, d *framework.FieldData) (bool, error) {
	r, err := b.registry.Get(ctx, roles.Prefix, d.Get("role").(string))
	return r != nil && r.Snapshot().Secrets[d.Get("name").(string)] != nil, err
}

// pathSecretCreate corresponds to CREATE on secrets/:role/:secret.
func (b *backend) pathSecretCreate(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.findRole(ctx, d.Get("role").(string))
	if err != nil {
		return nil, err
	}
	end, err := turn(ctx, r)
	if err != nil {
		return nil, err
	}
	defer end()
	added, err := b.draftSecret(ctx, r, d)
	if err != nil {
		return nil, err
	}
	if err := b.checkPolicy(ctx, d); err != nil {
		return nil, err
	}
	if added.Type == databaseType {
		config, err := databaseConfig(added)
		if err != nil {
			return nil, err
		}
		release, err := b.connections.Reserve(ctx, r.Name, added.Name, config)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	request, err := b.creation(ctx, req, d, added)
	if err != nil {
		return nil, err
	}
	return b.create(ctx, r, *request)
}

// turn is rotation.Role.Turn for a bounded time.
func turn(ctx context.Context, r *rotation.Role) (end func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, creationWait)
	defer cancel()
	return r.Turn(ctx)
}

// create makes a secret. Its users are claimed at their server before, and released
// again if there is no secret after all.
func (b *backend) create(ctx context.Context, r *rotation.Role, request rotation.Request) (*logical.Response, error) {
	if request.Added.Type != databaseType {
		return b.startAndWait(ctx, r, request, creationWait)
	}
	config, err := databaseConfig(request.Added)
	if err != nil {
		return nil, err
	}
	if err := b.connections.Claim(ctx, config); err != nil {
		return nil, err
	}
	resp, err := b.startAndWait(ctx, r, request, creationWait)
	if s := r.Snapshot(); err != nil && s.Secrets[request.Added.Name] == nil && s.InFlight == nil {
		for _, left := range b.connections.Release(context.WithoutCancel(ctx), r.Name, request.Added) {
			err = fmt.Errorf("%w; %s", err, left)
		}
	}
	return resp, err
}

// draftSecret builds the secret that the request describes.
func (b *backend) draftSecret(ctx context.Context, r *rotation.Role, d *framework.FieldData) (*rotation.Secret, error) {
	name, typeName := d.Get("name").(string), d.Get("type").(string)
	if typeName == "" {
		return nil, rotation.Invalid("type", "is missing; the types are: %s", roles.Sample(b.types.names()))
	}
	if err := cmp.Or(b.types.checkFields(d, typeName), checkAlike("name", name, r.Snapshot().Names())); err != nil {
		return nil, err
	}
	if err := b.types.checkFlat(r.Snapshot(), name, typeName); err != nil {
		return nil, err
	}
	if typeName == databaseType && d.Get("connection") == "" {
		return nil, rotation.Invalid("connection", "is missing: name the connection to the server of the users; there is: %s", b.registry.Existing(ctx, roles.ConnectionPrefix))
	}
	config, err := b.types.take(d, typeName, nil)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(b.types[typeName].Validate(config), secret.CheckLife(b.types[typeName], config, r.Snapshot().Resolved.Overlap), checkTemplate(typeName, config)); err != nil {
		return nil, err
	}
	once, ok := b.types[typeName].(secret.ShownOnce)
	return &rotation.Secret{Name: name, Type: typeName, Config: config, ShownOnce: ok && once.IsShownOnce(config)}, nil
}

// creation asks for the secret's first value: the supplied one, or a new one. It
// has been tried at the target as far as is possible without changing anything.
func (b *backend) creation(ctx context.Context, req *logical.Request, d *framework.FieldData, added *rotation.Secret) (*rotation.Request, error) {
	t := b.types[added.Type]
	request := b.newRequest(req, rotation.KindCreate)
	request.Added = added
	field, supplied, isSupplied, err := b.types.supplied(d, added)
	if err != nil {
		return nil, err
	}
	skip := d.Get("skip_import_rotation").(bool)
	var material rotation.Material
	switch {
	case isSupplied && !skip:
		return nil, rotation.Invalid(field, "is only for importing; set skip_import_rotation=true to take it over, or leave it out to have a new value made")
	case skip && !isSupplied:
		return nil, rotation.Invalid("skip_import_rotation", "needs the value to take over in the field %s", field)
	case skip:
		request.Kind = rotation.KindImport
		material, err = t.Import(*added, supplied)
		request.Supplied = material
	default:
		material, err = t.Create(ctx, *added)
	}
	if err != nil {
		return nil, preflightError(err)
	}
	findings, err := secret.Try(ctx, t, *added, material)
	if err != nil {
		return nil, preflightError(err)
	}
	request.Findings = findings
	return request, nil
}

// checkPolicy tries the password policy that the request names.
func (b *backend) checkPolicy(ctx context.Context, d *framework.FieldData) error {
	policy, named := d.GetOk("password_policy")
	if !named || policy == "" {
		return nil
	}
	if _, err := b.System().GeneratePasswordFromPolicy(ctx, policy.(string)); err != nil {
		return rotation.Invalid("password_policy", "%q makes no password: %v; write sys/policies/password/%s first, or name another one", policy, err, policy)
	}
	return nil
}

// preflightError says that nothing was changed: a preflight never does.
func preflightError(err error) error {
	return fmt.Errorf("%w: %w (nothing was changed)", rotation.ErrInvalid, err)
}

// pathSecretUpdate corresponds to UPDATE on secrets/:role/:secret.
func (b *backend) pathSecretUpdate(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.findRole(ctx, d.Get("role").(string))
	if err != nil {
		return nil, err
	}
	if err := b.checkPolicy(ctx, d); err != nil {
		return nil, err
	}
	if err := b.checkOverlapEnd(ctx, r, d); err != nil {
		return nil, err
	}
	name := d.Get("name").(string)
	before := r.Snapshot().Secrets[name]
	if err := r.SetSecret(ctx, b.configureRecord(req), name, func(s *rotation.State) error {
		stored, err := b.reconfigured(r, s, d)
		if err := cmp.Or(err, b.checkNewStatements(ctx, s, d)); err != nil {
			return err
		}
		s.Secrets[stored.Name] = stored
		return nil
	}); err != nil {
		return nil, err
	}
	if stored := r.Snapshot().Secrets[name]; before != nil && stored != nil {
		return warned(b.tryStatements(ctx, before, stored), nil)
	}
	return nil, nil
}

// reconfigured is the secret as the request wants it.
func (b *backend) reconfigured(r *rotation.Role, s *rotation.State, d *framework.FieldData) (*rotation.Secret, error) {
	stored := s.Secrets[d.Get("name").(string)]
	if stored == nil {
		return nil, rotation.Invalid("name", "role %s has no secret %q; it has: %s", r.Name, d.Get("name"), roles.Sample(s.Names()))
	}
	if err := b.types.checkUpdate(d, stored); err != nil {
		return nil, err
	}
	config, err := b.types.take(d, stored.Type, stored.Config)
	if err != nil {
		return nil, err
	}
	t := b.types[stored.Type]
	if err := cmp.Or(t.Validate(config), t.ValidateUpdate(stored.Config, config), secret.CheckLife(t, config, r.Snapshot().Resolved.Overlap), checkTemplate(stored.Type, config)); err != nil {
		return nil, err
	}
	changed := *stored
	changed.Config = config
	return &changed, nil
}

// checkOverlapEnd tries whether the administrator may do what the request wants to
// happen at the end of overlaps: nothing else does before the end of the next one.
func (b *backend) checkOverlapEnd(ctx context.Context, r *rotation.Role, d *framework.FieldData) error {
	stored := r.Snapshot().Secrets[d.Get("name").(string)]
	if _, named := d.GetOk("on_overlap_end"); !named || stored == nil || stored.Type != databaseType {
		return nil
	}
	updated := *stored
	var err error
	if updated.Config, err = b.types.take(d, stored.Type, stored.Config); err != nil {
		return err
	}
	if err := b.types[stored.Type].Validate(updated.Config); err != nil {
		return err
	}
	if _, _, err := b.tryOut(ctx, updated); err != nil {
		return preflightError(err)
	}
	return nil
}

// tryStatements warns of new verification statements that the current login can't run now:
// otherwise nobody would know before the next rotation. They are stored all the same,
// because what they need may come later. Before has the ones from before.
func (b *backend) tryStatements(ctx context.Context, before, stored *rotation.Secret) []string {
	if before.Type != databaseType || stored.Current == nil {
		return nil
	}
	was, errBefore := databaseConfig(before)
	is, err := databaseConfig(stored)
	if cmp.Or(errBefore, err) != nil || len(is.VerificationStatements) == 0 || slices.Equal(was.VerificationStatements, is.VerificationStatements) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	if err := b.types[databaseType].Test(ctx, *stored, stored.Current.Material); err != nil {
		return []string{fmt.Sprintf("verification_statements: the engine stored them, but a rotation would fail now, because the current login cannot use them: %v", err)}
	}
	return nil
}

// checkNewStatements refuses statements that would run as the administrator of a
// connection that does not allow any. It looks at the secret that is changed, not at an
// earlier one of that name.
func (b *backend) checkNewStatements(ctx context.Context, s *rotation.State, d *framework.FieldData) error {
	stored := s.Secrets[d.Get("name").(string)]
	statements, named := d.GetOk("rotation_statements")
	if !named || stored == nil || stored.Type != databaseType {
		return nil
	}
	config, err := databaseConfig(stored)
	if err != nil || slices.Equal(config.RotationStatements, statements.([]string)) {
		return err
	}
	config.RotationStatements = statements.([]string)
	return b.connections.CheckStatements(ctx, config)
}

// checkUpdate refuses what an update cannot do.
func (t secretTypes) checkUpdate(d *framework.FieldData, stored *rotation.Secret) error {
	if v, ok := d.GetOk("type"); ok && v != stored.Type {
		return rotation.Invalid("type", "of an existing secret cannot be changed from %s to %s; delete the secret and create it again", stored.Type, v)
	}
	for _, name := range append(settingNames(t[stored.Type].Schema().Imports), "skip_import_rotation") {
		if _, ok := d.GetOk(name); ok {
			return rotation.Invalid(name, "is for creating a secret; this one exists, and rotate gives it a new value")
		}
	}
	return t.checkFields(d, stored.Type)
}

// pathSecretRead corresponds to READ on secrets/:role/:secret.
func (b *backend) pathSecretRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.registry.Get(ctx, roles.Prefix, d.Get("role").(string))
	if err != nil || r == nil {
		return nil, err
	}
	s := r.Snapshot().Secrets[d.Get("name").(string)]
	if s == nil {
		return nil, nil
	}
	data := map[string]any{}
	if err := json.Unmarshal(s.Config, &data); err != nil {
		return nil, fmt.Errorf("decode secret %s: %w", s.Name, err)
	}
	data["type"] = s.Type
	return &logical.Response{Data: data}, nil
}

// pathSecretDelete corresponds to DELETE on secrets/:role/:secret.
func (b *backend) pathSecretDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	r, err := b.registry.Get(ctx, roles.Prefix, d.Get("role").(string))
	if err != nil || r == nil {
		return nil, err
	}
	end, err := turn(ctx, r)
	if err != nil {
		return nil, err
	}
	defer end()
	doomed := r.Snapshot().Secrets[name]
	if doomed == nil {
		return nil, nil
	}
	rec := b.newRecord(req, rotation.KindDelete, name, doomed.Type)
	rec.Issues = leftBehind(doomed)
	if err := r.RemoveSecret(ctx, rec, name); err != nil {
		return nil, unlessGone(err)
	}
	return warned(slices.Concat(rec.Issues, b.connections.Release(ctx, r.Name, doomed)), nil)
}

func (b *backend) pathSecretList() *framework.Path {
	return &framework.Path{
		Pattern:      "secrets/" + framework.GenericNameRegex("role") + "/?$",
		DisplayAttrs: attributes("list", "secrets"),
		Fields:       map[string]*framework.FieldSchema{"role": nameField("Name of the role.")},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: operation(b.pathSecretListRead, "List the secrets of a role.", listFields()),
		},
		HelpSynopsis:    "List the secrets of a role.",
		HelpDescription: "Lists the names of a role's secrets, with type and version.",
	}
}

// pathSecretListRead corresponds to LIST on secrets/:role.
func (b *backend) pathSecretListRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.findRole(ctx, d.Get("role").(string))
	if err != nil {
		return nil, err
	}
	s := r.Snapshot()
	info := map[string]any{}
	for name, secret := range s.Secrets {
		version := 0
		if secret.Current != nil {
			version = secret.Current.Version
		}
		info[name] = map[string]any{"type": secret.Type, "version": version}
	}
	return listResponse(s.Names(), info), nil
}

const secretHelp = `
A secret has one type, and each type has fields of its own. type=database needs
connection and usernames: one user with rotation_strategy=single_user, two with
alternating_users. type=jwt has algorithm, key_bits and exportable, and limits for
tokens: issuer, audience, max_ttl, allowed_claims, denied_claims and claims_template.
type=api_key has prefix, length and hash_only. type=random has password_policy, or
length and charset. When you create a secret, the engine makes its first value at once.
With skip_import_rotation=true, it instead tests and takes over the value in password,
secret, private_key, key or value. A later write changes only the fields that it
contains, and never the value. The engine creates and deletes the secrets of one role
one after the other: a request waits for the others, at most 30 s.`
