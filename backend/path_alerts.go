package backend

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/notify"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func (b *backend) pathAlerts() *framework.Path {
	return &framework.Path{
		Pattern:        "alerts/" + framework.GenericNameRegex("name"),
		DisplayAttrs:   attributes("", "alert"),
		Fields:         alertFields(),
		ExistenceCheck: b.pathAlertExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: mutation(b.pathAlertWrite, "Create or change an alert, which sends events of roles to a receiver.", nil),
			logical.UpdateOperation: mutation(b.pathAlertWrite, "Create or change an alert, which sends events of roles to a receiver.", nil),
			logical.ReadOperation:   operation(b.pathAlertRead, "Read an alert and the state of its delivery.", alertAnswer()),
			logical.DeleteOperation: b.deletion(b.pathAlertExists, b.pathAlertDelete, "Delete an alert. The engine stops sending events to its receiver."),
		},
		HelpSynopsis:    "Manage the alerts, which send events of roles to receivers.",
		HelpDescription: oneLine(alertHelp+strings.Join(notify.Names(), ", ")) + ".",
	}
}

func (b *backend) pathAlertList() *framework.Path {
	return &framework.Path{
		Pattern:      "alerts/?$",
		DisplayAttrs: attributes("list", "alerts"),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: operation(b.pathAlertListRead, "List the alerts.", listFields()),
		},
		HelpSynopsis:    "List the alerts.",
		HelpDescription: "Lists the names of the alerts, with their types and the state of their delivery.",
	}
}

func (b *backend) pathAlertTest() *framework.Path {
	return &framework.Path{
		Pattern:      "alerts/" + framework.GenericNameRegex("name") + "/test",
		DisplayAttrs: attributes("test", "alert"),
		Fields:       map[string]*framework.FieldSchema{"name": nameField("Name of the alert.")},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: mutation(b.pathAlertTestWrite, "Send one test event now.", nil),
		},
		HelpSynopsis:    "Send a test event to the receiver of an alert.",
		HelpDescription: "Sends an event named test, even if the alert selects other events. It fails if the receiver does not accept the event.",
	}
}

func alertFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"name":          nameField("Name of the alert."),
		"type":          {Type: framework.TypeString, AllowedValues: []any{notify.Webhook, notify.Slack, notify.Alertmanager}, Description: "Type of the receiver: webhook, slack or alertmanager."},
		"url":           sensitive("Address to post to; with type=alertmanager, the base address of the Alertmanager. If the address has a path, reading the alert shows only the host, as url_masked."),
		"events":        field(framework.TypeCommaStringSlice, "Names of the events to send; all if left out."),
		"roles":         field(framework.TypeCommaStringSlice, "Names of the roles whose events are sent; all roles and connections if left out. For a connection, write connections/<name>."),
		"authorization": sensitive("Value of the Authorization header that the engine sends."),
		"key":           sensitive("webhook: key with which the engine signs each message, 16 characters or more, without a line break at its end; openssl rand -hex 32 makes a good one. The signature is in the header " + outbound.SignatureHeader + "."),
		"tls_ca":        field(framework.TypeString, "CA certificates in PEM; the system's if left out."),
		"notice":        {Type: framework.TypeDurationSecond, Default: rotation.Seconds(notify.DefaultNotice), Description: "How long before an automatic rotation the engine sends the event rotation_due_soon. It does not send the event for roles that rotate more often than that."},
	}
}

func alertAnswer() map[string]*framework.FieldSchema {
	fields := alertFields()
	for _, name := range []string{"name", "authorization", "key"} {
		delete(fields, name)
	}
	fields["url"] = field(framework.TypeString, "Address to post to, if it has no path.")
	maskedFields(fields, "url")
	fields["outbound"] = standingField()
	fields["waiting"] = field(framework.TypeInt, "How many roles have events that the receiver has not accepted yet.")
	fields["last_error"] = field(framework.TypeString, "Why the latest delivery failed; empty after a success.")
	return fields
}

func (b *backend) pathAlertExists(ctx context.Context, _ *logical.Request, d *framework.FieldData) (bool, error) {
	c, err := b.alerts.Get(ctx, d.Get("name").(string))
	return c != nil, err
}

// pathAlertWrite corresponds to CREATE and UPDATE on alerts/:name.
func (b *backend) pathAlertWrite(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	existing, err := b.store.List(ctx, notify.Prefix)
	if err := cmp.Or(err, checkAlike("name", name, existing)); err != nil {
		return nil, err
	}
	if err := b.alerts.Change(ctx, name, func(c *notify.Config) error {
		before := alertWay(c)
		takeAlert(d, c)
		return cmp.Or(checkAlertKey(d), givenAgain(d, before, alertWay(c)))
	}); err != nil {
		return nil, err
	}
	return warned(b.unknownSubjects(ctx, d.Get("roles").([]string)))
}

// unknownSubjects warns of roles and connections that an alert is for, and that there are
// not: it may have been written before them, or be misspelt and never send anything.
func (b *backend) unknownSubjects(ctx context.Context, names []string) (warnings []string, err error) {
	for _, name := range names {
		prefix, what := roles.Prefix, "role"
		own, isConnection := strings.CutPrefix(name, "connections/")
		if isConnection {
			prefix, what = roles.ConnectionPrefix, "connection"
		}
		existing, err := b.registry.Names(ctx, prefix)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(existing, own) {
			warnings = append(warnings, fmt.Sprintf("roles: there is no %s %q now; there is: %s. The alert sends its events as soon as there is one", what, own, b.registry.Existing(ctx, prefix)))
		}
	}
	return warnings, nil
}

// checkAlertKey refuses a new key that is too short to sign with.
func checkAlertKey(d *framework.FieldData) error {
	if key := given(d, "key"); key != nil && *key != "" && len(*key) < outbound.MinKey {
		return rotation.Invalid("key", "has %d characters; it needs %d or more, so that nobody guesses it. Make one by: openssl rand -hex 32", len(*key), outbound.MinKey)
	}
	return nil
}

// takeAlert takes over the fields that the request names.
func takeAlert(d *framework.FieldData, c *notify.Config) {
	for field, target := range map[string]*string{
		"type": &c.Type, "url": &c.URL, "authorization": &c.Authorization, "key": &c.Key, "tls_ca": &c.TLSCA,
	} {
		takeString(d, field, target)
	}
	takeStrings(d, "events", &c.Events)
	takeStrings(d, "roles", &c.Roles)
	takeSeconds(d, "notice", &c.Notice)
}

// alertWay is how the events of an alert are sent. An address of which only the host
// is shown goes along, as what gets it.
func alertWay(c *notify.Config) outbound.Way {
	w := outbound.Way{
		To:    map[string]string{"type": c.Type, "url": c.URL, "tls_ca": c.TLSCA},
		Along: map[string]string{"authorization": c.Authorization, "key": c.Key},
	}
	if shownURL(c.URL) != c.URL {
		w.Along["url"] = c.URL
	}
	return w
}

// pathAlertRead corresponds to READ on alerts/:name.
func (b *backend) pathAlertRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	s, err := b.alerts.Read(ctx, d.Get("name").(string))
	if err != nil || s == nil {
		return nil, err
	}
	data, c := deliveryOf(*s), s.Config
	showMasked(data, "url", c.URL, shownURL(c.URL))
	data["type"], data["events"], data["roles"] = c.Type, c.Events, c.Roles
	data["tls_ca"], data["notice"] = c.TLSCA, rotation.Seconds(c.Notice)
	return shown(data, s.Standing), nil
}

// deliveryOf says how the delivery of an alert goes.
func deliveryOf(s notify.Status) map[string]any {
	return map[string]any{"waiting": s.Waiting, "last_error": s.LastError}
}

// pathAlertDelete corresponds to DELETE on alerts/:name.
func (b *backend) pathAlertDelete(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return nil, b.alerts.Delete(ctx, d.Get("name").(string))
}

// pathAlertListRead corresponds to LIST on alerts.
func (b *backend) pathAlertListRead(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	all, err := b.alerts.List(ctx)
	if err != nil {
		return nil, err
	}
	names, info := make([]string, 0, len(all)), map[string]any{}
	for _, s := range all {
		about := deliveryOf(s)
		if s.Err != nil {
			about["error"] = s.Err.Error()
		} else if s.Config != nil {
			about["type"] = s.Config.Type
		}
		names, info[s.Name] = append(names, s.Name), about
	}
	return listResponse(names, info), nil
}

// pathAlertTestWrite corresponds to UPDATE on alerts/:name/test.
func (b *backend) pathAlertTestWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return nil, b.alerts.SendTest(ctx, d.Get("name").(string), req.ID, defaultRole)
}

const alertHelp = `
An alert sends the events of roles to a receiver. With type=webhook, the engine posts
JSON and signs it with key. With type=slack, it posts a text. With type=alertmanager, it
posts alerts, and resolves each when what it reports is over. The engine delivers each
event at least once, and the events of one role in order. An event that it delivers again
keeps its id; only target_…, secret_… and overlap_waiting events can get another one. The
engine retries until the receiver accepts the event;
rotations do not wait for that. It does not send events from before the alert was created. If you set authorization or key,
outbound_hosts of config must name the host of url, and url must begin with https unless
its host is localhost or a loopback address. If you change url, type or tls_ca, give
authorization and key again. docs/integrations.md says when the engine sends each event.
The events are `
