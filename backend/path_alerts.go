package backend

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/notify"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
)

func (b *backend) pathAlerts() *framework.Path {
	return &framework.Path{
		Pattern:        "alerts/" + framework.GenericNameRegex("name"),
		DisplayAttrs:   attributes("", "alert"),
		Fields:         alertFields(),
		ExistenceCheck: b.pathAlertExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: mutation(b.pathAlertWrite, "Tell somebody what happens to roles.", nil),
			logical.UpdateOperation: mutation(b.pathAlertWrite, "Change where and what is told.", nil),
			logical.ReadOperation:   operation(b.pathAlertRead, "Read an alert, and how its delivery goes.", alertAnswer()),
			logical.DeleteOperation: mutation(b.pathAlertDelete, "Tell nothing there any more.", nil),
		},
		HelpSynopsis:    "Manage the alerts: who is told what happens to roles.",
		HelpDescription: oneLine(alertHelp),
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
		HelpDescription: "Lists the names of the alerts, with their type and how their delivery goes.",
	}
}

func (b *backend) pathAlertTest() *framework.Path {
	return &framework.Path{
		Pattern:      "alerts/" + framework.GenericNameRegex("name") + "/test",
		DisplayAttrs: attributes("test", "alert"),
		Fields:       map[string]*framework.FieldSchema{"name": nameField("Name of the alert.")},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: mutation(b.pathAlertTestWrite, "Send a test, now and once.", nil),
		},
		HelpSynopsis:    "Send a test to whoever an alert tells.",
		HelpDescription: "Sends an event named test, whatever events the alert is for, and answers whether it was taken.",
	}
}

func alertFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"name":          nameField("Name of the alert."),
		"type":          {Type: framework.TypeString, AllowedValues: []any{notify.Webhook, notify.Slack, notify.Alertmanager}, Description: "webhook, slack or alertmanager."},
		"url":           sensitive("Address to post to; the base address of an Alertmanager. Only its host is shown when read."),
		"events":        field(framework.TypeCommaStringSlice, "Names of the events to tell; all if left out."),
		"roles":         field(framework.TypeCommaStringSlice, "Names of the roles whose events are told; all if left out. A connection is connections/<name>."),
		"authorization": sensitive("Value of the Authorization header."),
		"key":           sensitive("webhook: key by which what is sent is signed, in the header " + outbound.SignatureHeader + "."),
		"tls_ca":        field(framework.TypeString, "CA certificates in PEM; the system's if left out."),
		"notice":        {Type: framework.TypeDurationSecond, Default: seconds(notify.DefaultNotice), Description: "How long before a rotation rotation_due_soon is told, to roles that rotate less often."},
	}
}

func alertAnswer() map[string]*framework.FieldSchema {
	fields := alertFields()
	for _, name := range []string{"name", "authorization", "key"} {
		delete(fields, name)
	}
	fields["url"] = field(framework.TypeString, "Address, without what may be secret in it.")
	fields["outbound"] = standingField()
	fields["waiting"] = field(framework.TypeInt, "How many roles have something to tell that is not delivered.")
	fields["last_error"] = field(framework.TypeString, "Why the latest delivery failed; empty after a success.")
	return fields
}

func (b *backend) pathAlertExists(ctx context.Context, _ *logical.Request, d *framework.FieldData) (bool, error) {
	c, err := b.alerts.Config(ctx, d.Get("name").(string))
	return c != nil, err
}

// pathAlertWrite corresponds to CREATE and UPDATE on alerts/:name.
func (b *backend) pathAlertWrite(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	b.configuring.Lock()
	defer b.configuring.Unlock()
	name := d.Get("name").(string)
	c, err := b.alerts.Config(ctx, name)
	if err != nil {
		return nil, err
	}
	rule, err := b.outboundRule(ctx, outbound.ForAlerts)
	if err != nil {
		return nil, err
	}
	before := way{}
	if c == nil {
		c = &notify.Config{Notice: notify.DefaultNotice, Created: b.now().UTC()}
	} else {
		before = alertWay(c)
	}
	for field, target := range map[string]*string{
		"type": &c.Type, "url": &c.URL, "authorization": &c.Authorization, "key": &c.Key, "tls_ca": &c.TLSCA,
	} {
		takeString(d, field, target)
	}
	takeStrings(d, "events", &c.Events)
	takeStrings(d, "roles", &c.Roles)
	if v, ok := d.GetOk("notice"); ok {
		c.Notice = time.Duration(v.(int)) * time.Second
	}
	if err := errorsFirst(before.stays(d, alertWay(c)), c.Validate()); err != nil {
		return nil, err
	}
	if err := c.Admit(ctx, rule); err != nil {
		return nil, err
	}
	c.Checked = true
	if err := (&store{b}).Write(ctx, notify.Prefix+name, c); err != nil {
		return nil, fmt.Errorf("save alert: %w", err)
	}
	b.alerts.Set(name, c)
	return nil, nil
}

// alertWay is how the events of an alert are sent. An address of which only the host
// is shown goes along, as what gets it.
func alertWay(c *notify.Config) way {
	w := way{
		to:    map[string]string{"type": c.Type, "url": c.URL, "tls_ca": c.TLSCA},
		along: map[string]string{"authorization": c.Authorization, "key": c.Key},
	}
	if strings.TrimSuffix(c.URL, "/") != outbound.Host(c.URL) {
		w.along["url"] = c.URL
	}
	return w
}

// pathAlertRead corresponds to READ on alerts/:name.
func (b *backend) pathAlertRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	c, err := b.alerts.Config(ctx, name)
	if err != nil || c == nil {
		return nil, err
	}
	rule, err := b.outboundRule(ctx, outbound.ForAlerts)
	if err != nil {
		return nil, err
	}
	data := b.delivery(name)
	data["type"], data["url"], data["events"], data["roles"] = c.Type, outbound.Host(c.URL), c.Events, c.Roles
	data["tls_ca"], data["notice"] = c.TLSCA, seconds(c.Notice)
	return shown(data, c.Standing(rule)), nil
}

// delivery tells how the delivery of an alert goes.
func (b *backend) delivery(name string) map[string]any {
	data := map[string]any{"waiting": 0, "last_error": ""}
	if c := b.alerts.All()[name]; c != nil {
		data["waiting"], data["last_error"] = c.State()
	}
	return data
}

// pathAlertDelete corresponds to DELETE on alerts/:name.
func (b *backend) pathAlertDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	b.configuring.Lock()
	defer b.configuring.Unlock()
	name := d.Get("name").(string)
	b.alerts.Set(name, nil)
	for _, prefix := range []string{roles.Prefix, roles.ConnectionPrefix} {
		below := notify.CursorPrefix + name + "/" + prefix
		names, err := req.Storage.List(ctx, below)
		if err != nil {
			return nil, fmt.Errorf("list deliveries of %s: %w", name, err)
		}
		for _, role := range names {
			if err := req.Storage.Delete(ctx, below+role); err != nil {
				return nil, fmt.Errorf("forget deliveries of %s: %w", name, err)
			}
		}
	}
	return nil, req.Storage.Delete(ctx, notify.Prefix+name)
}

// pathAlertListRead corresponds to LIST on alerts.
func (b *backend) pathAlertListRead(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	names, err := (&store{b}).List(ctx, notify.Prefix)
	if err != nil {
		return nil, err
	}
	info := map[string]any{}
	for _, name := range names {
		about := b.delivery(name)
		if c, err := b.alerts.Config(ctx, name); err != nil {
			about["error"] = err.Error()
		} else if c != nil {
			about["type"] = c.Type
		}
		info[name] = about
	}
	return listResponse(names, info), nil
}

// pathAlertTestWrite corresponds to UPDATE on alerts/:name/test.
func (b *backend) pathAlertTestWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	c, err := b.alerts.Config(ctx, name)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, invalid("name", "there is no alert %q; write alerts/%s first", name, name)
	}
	now := b.now().UTC()
	e := notify.NewEvent(notify.Test, req.ID, "This is a test of alerts/"+name)
	e.Time, e.Mount, e.Role, e.Environment = now, b.mountPath(), defaultRole, b.rotationSettings().Environment
	if err := b.alertPorts().Send(ctx, *c, e, now); err != nil {
		return nil, invalid("url", "the test was not taken: %v", err)
	}
	return nil, nil
}

const alertHelp = `
Whatever happens to a role is told: rotation_due_soon, rotation_started,
rotation_completed, rotation_failed, rotation_rolled_back, application_degraded,
rotation_overdue, needs_attention and clock_ahead. Each event is delivered at least once, with
an id that is the same when it is delivered again, those of a role in order, and
again and again until it is taken; no rotation waits for it. type=webhook gets
JSON, signed with key; slack a text; alertmanager alerts that a completed rotation
resolves. What happened before the alert was created is not told. An alert with
authorization or key is sent only to what outbound_hosts of config names, and by
https unless that is this machine; whoever changes where it is sent, by url, type or
tls_ca, gives them again.`
