package backend

import (
	"cmp"
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
			logical.CreateOperation: mutation(b.pathDestinationWrite, "Create or change a destination, to which the engine publishes copies of values.", nil),
			logical.UpdateOperation: mutation(b.pathDestinationWrite, "Create or change a destination, to which the engine publishes copies of values.", nil),
			logical.ReadOperation:   operation(b.pathDestinationRead, "Read a destination, without its secrets.", destinationAnswer()),
			logical.DeleteOperation: b.deletion(b.pathDestinationExists, b.pathDestinationDelete, "Delete a destination that no role names."),
		},
		HelpSynopsis:    "Manage the destinations, which are other systems that get copies of values.",
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
		HelpDescription: "Lists the names of the destinations, with type, required, and where, which describes for people where the copies are.",
	}
}

// targetFields are the settings of the types of targets.
var targetFields = map[string]*framework.FieldSchema{
	"region":            field(framework.TypeString, "aws_secrets_manager: region, such as eu-central-1."),
	"endpoint":          field(framework.TypeString, "aws_secrets_manager: address of Secrets Manager, such as a VPC endpoint; that of AWS if left out."),
	"sts_endpoint":      field(framework.TypeString, "aws_secrets_manager: address of STS; that of AWS if left out."),
	"access_key_id":     field(framework.TypeString, "aws_secrets_manager: access key id. If left out, the engine uses the AWS credentials of the Vault server, such as an instance profile."),
	"secret_access_key": sensitive("aws_secrets_manager: secret access key of access_key_id."),
	"role_arn":          field(framework.TypeString, "aws_secrets_manager: IAM role that the engine assumes, each time for 15 minutes."),
	"external_id":       field(framework.TypeString, "aws_secrets_manager: external id that role_arn requires."),
	"address":           field(framework.TypeString, "vault_kv: address of the Vault to publish to: this one or another one."),
	"mount":             field(framework.TypeString, "vault_kv: mount of the KV engine, version 2; secret if left out."),
	"namespace":         field(framework.TypeString, "vault_kv: namespace of the KV engine, with Vault Enterprise."),
	"role_id":           field(framework.TypeString, "vault_kv: role_id of the AppRole with which the engine logs in. It revokes the token after each use."),
	"secret_id":         sensitive("vault_kv: secret_id of the AppRole in role_id."),
	"auth_mount":        field(framework.TypeString, "vault_kv: mount of the AppRole auth method; approle if left out."),
	"token":             sensitive("vault_kv: Vault token to use instead of role_id and secret_id."),
	"url":               field(framework.TypeString, "webhook: address to post to. If the address has a path, reading the destination shows only the host, as url_masked."),
	"key":               sensitive("webhook: key with which the engine signs each message, 16 characters or more, without a line break at its end; openssl rand -hex 32 makes a good one."),
	"tls_ca":            field(framework.TypeString, "CA certificates in PEM; the system's if left out."),
}

func destinationFields() map[string]*framework.FieldSchema {
	def := destination.New(destination.TypeWebhook)
	fields := map[string]*framework.FieldSchema{
		"name":          nameField("Name of the destination."),
		"type":          field(framework.TypeString, "Type of the destination: "+strings.Join(destination.Types(), ", ")+". You cannot change it later."),
		"allowed_roles": field(framework.TypeCommaStringSlice, "Names of the roles that may name this destination in their field destinations; none by default. * in a name stands for any text, and * alone for all roles."),

		"values":   field(framework.TypeStringSlice, "What to publish, each as name=value, like '{{role}}/database-password={{db_password}}'. In the name, {{role}} stands for the name of the role. In the value, a placeholder is the name of a field that creds returns for the role."),
		"required": field(framework.TypeBool, "What happens if the destination does not accept the values of a rotation before the deadline. true: the engine rolls the rotation back. false: the rotation stays, and the engine sends the event destination_failed and goes on trying."),
		"timeout":  {Type: framework.TypeDurationSecond, Default: rotation.Seconds(def.Timeout), Description: "How long one attempt may take, at most 25 s."},
		"deadline": {Type: framework.TypeDurationSecond, Default: rotation.Seconds(def.Deadline), Description: "How long after a rotation the engine tries to publish. Then it sends destination_failed and goes on trying or, with required, rolls the rotation back."},
		"on_drift": {Type: framework.TypeString, Default: def.OnDrift, AllowedValues: []any{destination.Repair, destination.Report}, Description: "What the engine does when the destination no longer holds what it published. report: it sends the event destination_drifted. repair: it also publishes again, and overwrites copies that have its mark."},
		"adopt":    field(framework.TypeBool, "Whether the engine may overwrite secrets that already exist at the destination under these names and that it did not create."),
		"verify":   {Type: framework.TypeBool, Default: true, Description: "Whether the engine logs in and tests its permissions before it stores the destination."},
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
	maskedFields(fields, "values", "url")
	fields["outbound"] = standingField()
	fields["where"] = field(framework.TypeString, "Description of where the copies are, for people.")
	fields["roles"] = field(framework.TypeStringSlice, "Names of the roles that name this destination.")
	return fields
}

func (b *backend) pathDestinationExists(ctx context.Context, _ *logical.Request, d *framework.FieldData) (bool, error) {
	c, err := b.destinations.Get(ctx, d.Get("name").(string))
	return c != nil, err
}

// pathDestinationWrite corresponds to CREATE and UPDATE on destinations/:name.
func (b *backend) pathDestinationWrite(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	existing, err := b.destinations.List(ctx)
	if err := cmp.Or(err, checkAlike("name", name, existing), checkAllowedRoles(d)); err != nil {
		return nil, err
	}
	return warned(b.destinations.Write(ctx, name, publish.Change{
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
		"type": c.Type, "required": c.Required, "timeout": rotation.Seconds(c.Timeout),
		"allowed_roles": c.AllowedRoles,
		"deadline":      rotation.Seconds(c.Deadline), "on_drift": c.OnDrift, "adopt": c.Adopt, "where": c.Target.Where(), "roles": using,
	}
	showMasked(data, "values", append([]string{}, c.Values...), shownValues(c.Values))
	for field, value := range c.Target.Fields() {
		switch {
		case slices.Contains(destination.SecretFields, field):
			data[field+"_set"] = *value != ""
		case field == "url":
			showMasked(data, field, *value, shownURL(*value))
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
that name it in their field destinations. The engine publishes right after each rotation
and rollback, before the checks; after each change of a role or of the destination; and
when it finds that the destination no longer holds what it published. If the destination
is required and does not accept the values before its deadline, the engine rolls the
rotation back. The engine marks what it creates, overwrites nothing else unless
adopt=true, and never deletes anything there. outbound_hosts of config must name the
host of the destination, and its address must begin with https unless the host is
localhost or a loopback address. If you change the address, or another field that says
where values go, give the credentials again. Give write permission on destinations/ to
administrators only: whoever has it decides which of the hosts in outbound_hosts gets
the values of which roles.`
