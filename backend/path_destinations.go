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
			logical.CreateOperation: mutation(b.pathDestinationWrite, "Create a destination: say where the engine publishes copies of values.", nil),
			logical.UpdateOperation: mutation(b.pathDestinationWrite, "Change a destination.", nil),
			logical.ReadOperation:   operation(b.pathDestinationRead, "Read a destination, without its secrets.", destinationAnswer()),
			logical.DeleteOperation: mutation(b.pathDestinationDelete, "Delete a destination that no role names.", nil),
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
		HelpDescription: "Lists the names of the destinations, with type, target, and whether they are required.",
	}
}

// targetFields are the settings of the types of targets.
var targetFields = map[string]*framework.FieldSchema{
	"region":            field(framework.TypeString, "aws_secrets_manager: region, such as eu-central-1."),
	"endpoint":          field(framework.TypeString, "aws_secrets_manager: address instead of AWS's own, such as a VPC endpoint."),
	"sts_endpoint":      field(framework.TypeString, "aws_secrets_manager: address of STS instead of AWS's own."),
	"access_key_id":     field(framework.TypeString, "aws_secrets_manager: access key. Without it, the engine uses the credentials of the machine that Vault runs on."),
	"secret_access_key": sensitive("aws_secrets_manager: secret of the access key."),
	"role_arn":          field(framework.TypeString, "aws_secrets_manager: role to assume. Its credentials expire after a quarter of an hour."),
	"external_id":       field(framework.TypeString, "aws_secrets_manager: external id that the role requires."),
	"address":           field(framework.TypeString, "vault_kv: address of this Vault or another one."),
	"mount":             field(framework.TypeString, "vault_kv: mount of the KV engine, version 2; secret if left out."),
	"namespace":         field(framework.TypeString, "vault_kv: namespace, with Vault Enterprise."),
	"role_id":           field(framework.TypeString, "vault_kv: role_id of an AppRole to log in with. The engine revokes the token after each use."),
	"secret_id":         sensitive("vault_kv: secret_id of that AppRole."),
	"auth_mount":        field(framework.TypeString, "vault_kv: mount of the AppRole auth method; approle if left out."),
	"token":             sensitive("vault_kv: a token, instead of an AppRole."),
	"url":               field(framework.TypeString, "webhook: address to post to. Reading shows only its host."),
	"key":               sensitive("webhook: key with which the engine signs each message, 16 characters or more."),
	"tls_ca":            field(framework.TypeString, "CA certificates in PEM; the system's if left out."),
}

func destinationFields() map[string]*framework.FieldSchema {
	def := destination.New(destination.TypeWebhook)
	fields := map[string]*framework.FieldSchema{
		"name":          nameField("Name of the destination."),
		"type":          field(framework.TypeString, strings.Join(destination.Types(), ", ")+". It can't be changed."),
		"allowed_roles": field(framework.TypeCommaStringSlice, "Roles that may name it in their destinations; none by default. * in a name stands for any text, and * alone for all roles."),

		"values":   field(framework.TypeStringSlice, "Names at the target and the values under them, each like '{{role}}/database-password={{db_password}}'. A placeholder of a value is a field of creds."),
		"required": field(framework.TypeBool, "true: if the target has not accepted the values by the deadline, the rotation is rolled back. false: the rotation stays, the engine sends an event and goes on trying."),
		"timeout":  {Type: framework.TypeDurationSecond, Default: rotation.Seconds(def.Timeout), Description: "How long one attempt may take, at most 25 s."},
		"deadline": {Type: framework.TypeDurationSecond, Default: rotation.Seconds(def.Deadline), Description: "For how long after a rotation the engine tries, before the publication counts as failed."},
		"on_drift": {Type: framework.TypeString, Default: def.OnDrift, AllowedValues: []any{destination.Repair, destination.Report}, Description: "What the engine does when the target holds another value: repair, which overwrites what is the engine's own, or report."},
		"adopt":    field(framework.TypeBool, "Whether the engine may overwrite what exists already under a name and is not its own."),
		"verify":   {Type: framework.TypeBool, Default: true, Description: "Whether the engine logs in and tries its permissions before it stores the destination."},
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
		fields[name+"_set"] = field(framework.TypeBool, "Whether the destination has a "+name+".")
	}
	fields["outbound"] = standingField()
	fields["where"] = field(framework.TypeString, "The target, in words.")
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
A destination is another system that gets copies of values: AWS Secrets Manager, a KV
secrets engine of this or another Vault, or a webhook. It gets the values of the roles
that name it in their destinations. The engine publishes right after each rotation and
rollback, before the checks; after each change of a role or of the destination; and
whenever it finds that the target holds something else. If the destination is required
and has not accepted the values by its deadline, the rotation is rolled back. The engine
does not overwrite what it has not written itself, unless adopt=true, and never deletes
anything there. outbound_hosts of config must name the host, and the address must begin
with https unless it is on this machine. Whoever changes where values are sent must give
the credentials again. Whoever may write destinations decides which of those hosts gets
the values of which roles (allowed_roles).`
