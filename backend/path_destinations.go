package backend

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/publish"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func (b *backend) pathDestinations() *framework.Path {
	return &framework.Path{
		Pattern:        "destinations/" + framework.GenericNameRegex("name"),
		DisplayAttrs:   attributes("", "destination"),
		Fields:         destinationFields(),
		ExistenceCheck: b.pathDestinationExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: mutation(b.pathDestinationWrite, "Tell where copies of values are to be published.", nil),
			logical.UpdateOperation: mutation(b.pathDestinationWrite, "Change where and what is published.", nil),
			logical.ReadOperation:   operation(b.pathDestinationRead, "Read a destination, without its secrets.", destinationAnswer()),
			logical.DeleteOperation: mutation(b.pathDestinationDelete, "Forget a destination that no role names.", nil),
		},
		HelpSynopsis:    "Manage the destinations: other systems that get copies of values.",
		HelpDescription: oneLine(destinationHelp),
	}
}

func (b *backend) pathDestinationList() *framework.Path {
	return &framework.Path{
		Pattern:      "destinations/?$",
		DisplayAttrs: attributes("list", "destinations"),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: operation(b.pathDestinationListRead, "List the destinations.", listFields()),
		},
		HelpSynopsis:    "List the destinations.",
		HelpDescription: "Lists the names of the destinations, with their type, where that is, and the roles that name them.",
	}
}

// targetFields are the settings of the types of targets.
var targetFields = map[string]*framework.FieldSchema{
	"region":            field(framework.TypeString, "aws_secrets_manager: region, such as eu-central-1."),
	"endpoint":          field(framework.TypeString, "aws_secrets_manager: address instead of AWS's own, such as a VPC endpoint."),
	"sts_endpoint":      field(framework.TypeString, "aws_secrets_manager: the same for STS."),
	"access_key_id":     field(framework.TypeString, "aws_secrets_manager: access key; without it, what the machine that Vault runs on has."),
	"secret_access_key": sensitive("aws_secrets_manager: secret of the access key."),
	"role_arn":          field(framework.TypeString, "aws_secrets_manager: role to assume, so that credentials last a quarter of an hour."),
	"external_id":       field(framework.TypeString, "aws_secrets_manager: external id that the role asks for."),
	"address":           field(framework.TypeString, "vault_kv: address of the Vault, this or another one."),
	"mount":             field(framework.TypeString, "vault_kv: where the KV engine of version 2 is mounted; secret if left out."),
	"namespace":         field(framework.TypeString, "vault_kv: namespace, with Vault Enterprise."),
	"role_id":           field(framework.TypeString, "vault_kv: role_id of an AppRole, for a token that is revoked after each use."),
	"secret_id":         sensitive("vault_kv: secret_id of that AppRole."),
	"auth_mount":        field(framework.TypeString, "vault_kv: where AppRole is mounted; approle if left out."),
	"token":             sensitive("vault_kv: token to use as it is, instead of an AppRole."),
	"url":               field(framework.TypeString, "webhook: address to post to. Only its host is shown when read."),
	"key":               sensitive("webhook: key by which what is sent is signed, of 16 characters or more."),
	"tls_ca":            field(framework.TypeString, "CA certificates in PEM; the system's if left out."),
}

func destinationFields() map[string]*framework.FieldSchema {
	def := destination.New(destination.TypeWebhook)
	fields := map[string]*framework.FieldSchema{
		"name":          nameField("Name of the destination."),
		"type":          field(framework.TypeString, strings.Join(destination.Types(), ", ")+". It can't be changed."),
		"allowed_roles": field(framework.TypeCommaStringSlice, "The roles that may name it in their destinations; none unless said. * in a name stands for any text, and alone for all roles."),

		"values":   field(framework.TypeStringSlice, "What is published under which name, each like '{{role}}/database-password={{db_password}}'. Placeholders of values are the fields of creds."),
		"required": field(framework.TypeBool, "Whether a rotation that can't be published by its deadline is rolled back; otherwise that is told, and mended later."),
		"timeout":  {Type: framework.TypeDurationSecond, Default: rotation.Seconds(def.Timeout), Description: "How long one attempt may take, at most 25 s."},
		"deadline": {Type: framework.TypeDurationSecond, Default: rotation.Seconds(def.Deadline), Description: "How long after a rotation attempts go on before it counts as failed."},
		"on_drift": {Type: framework.TypeString, Default: def.OnDrift, AllowedValues: []any{destination.Repair, destination.Report}, Description: "What to do when the target holds something else: repair what is this engine's own, or report."},
		"adopt":    field(framework.TypeBool, "Whether what exists already under a name and is not this engine's may be overwritten."),
		"verify":   {Type: framework.TypeBool, Default: true, Description: "Log in and try the permissions before the destination is stored."},
	}
	maps.Copy(fields, targetFields)
	return fields
}

// destinationAnswer is what reading a destination shows: all but the secrets.
func destinationAnswer() map[string]*framework.FieldSchema {
	fields := destinationFields()
	for _, name := range append([]string{"name", "verify"}, destination.SecretFields...) {
		delete(fields, name)
	}
	for _, name := range destination.SecretFields {
		fields[name+"_set"] = field(framework.TypeBool, "Whether there is a "+name+".")
	}
	fields["outbound"] = standingField()
	fields["where"] = field(framework.TypeString, "The place, for people.")
	fields["roles"] = field(framework.TypeStringSlice, "Names of the roles that name it.")
	return fields
}

func (b *backend) pathDestinationExists(ctx context.Context, _ *logical.Request, d *framework.FieldData) (bool, error) {
	c, err := b.destinations.Get(ctx, d.Get("name").(string))
	return c != nil, err
}

// pathDestinationWrite corresponds to CREATE and UPDATE on destinations/:name.
func (b *backend) pathDestinationWrite(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return warned(b.destinations.Write(ctx, d.Get("name").(string), publish.Change{
		Type: given(d, "type"), Target: takeTarget(d), Unverified: !d.Get("verify").(bool),
		Take: func(c *destination.Config) { takeDestination(d, c) },
		Way: func(stored, c *destination.Config) error {
			return givenAgain(d, destinationWay(stored), destinationWay(c))
		},
	}))
}

// warned answers with warnings, if there are any.
func warned(warnings []string, err error) (*logical.Response, error) {
	if err != nil || len(warnings) == 0 {
		return nil, err
	}
	return &logical.Response{Warnings: warnings}, nil
}

// takeDestination takes over the fields that the request names, but the target's.
func takeDestination(d *framework.FieldData, c *destination.Config) {
	takeStrings(d, "allowed_roles", &c.AllowedRoles)
	takeStrings(d, "values", &c.Values)
	takeBool(d, "required", &c.Required)
	takeBool(d, "adopt", &c.Adopt)
	takeString(d, "on_drift", &c.OnDrift)
	for field, target := range map[string]*time.Duration{"timeout": &c.Timeout, "deadline": &c.Deadline} {
		takeSeconds(d, field, target)
	}
}

// wayFields say where the credentials of a destination and the values are sent to.
var wayFields = []string{
	"address", "auth_mount", "endpoint", "mount", "namespace", "region", "role_arn", "sts_endpoint", "tls_ca", "url",
}

// destinationWay is how what a destination publishes is sent. What is not a
// placeholder in its values is not shown, and so may be a secret.
func destinationWay(c *destination.Config) outbound.Way {
	w := outbound.Way{To: map[string]string{}, Along: map[string]string{}}
	for name, value := range c.Target.Fields() {
		if slices.Contains(wayFields, name) {
			w.To[name] = *value
		}
		if slices.Contains(destination.SecretFields, name) {
			w.Along[name] = *value
		}
	}
	if !slices.Equal(c.Values, shownValues(c.Values)) {
		w.Along["values"] = strings.Join(c.Values, "\n")
	}
	return w
}

// takeTarget returns the settings of the target that the request names.
func takeTarget(d *framework.FieldData) map[string]string {
	named := map[string]string{}
	for name := range targetFields {
		if v := given(d, name); v != nil {
			named[name] = *v
		}
	}
	return named
}

// pathDestinationRead corresponds to READ on destinations/:name.
func (b *backend) pathDestinationRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	c, err := b.destinations.Get(ctx, name)
	if err != nil || c == nil {
		return nil, err
	}
	using, err := b.destinations.RoleNames(ctx, name)
	if err != nil {
		return nil, err
	}
	rule, err := b.rule(ctx, outbound.ForDestinations)
	if err != nil {
		return nil, err
	}
	data := map[string]any{
		"type": c.Type, "values": shownValues(c.Values), "required": c.Required, "timeout": rotation.Seconds(c.Timeout),
		"allowed_roles": c.AllowedRoles,
		"deadline":      rotation.Seconds(c.Deadline), "on_drift": c.OnDrift, "adopt": c.Adopt, "where": c.Target.Where(), "roles": using,
	}
	for field, value := range c.Target.Fields() {
		switch {
		case slices.Contains(destination.SecretFields, field):
			data[field+"_set"] = *value != ""
		case field == "url":
			data[field] = outbound.Host(*value)
		default:
			data[field] = *value
		}
	}
	return shown(data, c.Standing(rule)), nil
}

// shownValues hides what might be a secret.
func shownValues(values []string) []string {
	shown := make([]string, 0, len(values))
	for _, value := range values {
		name, text, _ := strings.Cut(value, "=")
		shown = append(shown, name+"="+shownText(text))
	}
	return shown
}

// pathDestinationDelete corresponds to DELETE on destinations/:name.
func (b *backend) pathDestinationDelete(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return nil, b.destinations.Delete(ctx, d.Get("name").(string))
}

// pathDestinationListRead corresponds to LIST on destinations.
func (b *backend) pathDestinationListRead(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	names, err := b.destinations.List(ctx)
	if err != nil {
		return nil, err
	}
	info := map[string]any{}
	for _, name := range names {
		c, err := b.destinations.Get(ctx, name)
		if err != nil {
			info[name] = map[string]any{"error": err.Error()}
		} else if c != nil {
			info[name] = map[string]any{"type": c.Type, "where": c.Target.Where(), "required": c.Required}
		}
	}
	return listResponse(names, info), nil
}

const destinationHelp = `
A destination is another system that gets copies of the values of the roles that
name it in their destinations: AWS Secrets Manager, a KV secrets engine of this or
another Vault, or a webhook. They are published right after each rotation and
rollback, before the checks; whenever a role or the destination is changed; and
again when the target turns out to hold something else. If it is required, a
rotation that can't be published by its deadline is rolled back. What exists already
at the target and is not this engine's is not overwritten, unless adopt says so; and
nothing is ever deleted there. Values go only to what outbound_hosts of config names,
and by https unless that is this machine; whoever changes where they are sent gives
the credentials again. Whoever may write destinations decides who of those gets
values, and of which roles (allowed_roles).`
