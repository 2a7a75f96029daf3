package backend

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/publish"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func (b *backend) pathChecks() *framework.Path {
	return &framework.Path{
		Pattern:        "checks/" + framework.GenericNameRegex("role") + "/" + framework.GenericNameRegex("name"),
		DisplayAttrs:   attributes("", "check"),
		Fields:         checkSchema(),
		ExistenceCheck: b.pathCheckExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: mutation(b.pathCheckWrite, "Create or change a check of a role.", nil),
			logical.UpdateOperation: mutation(b.pathCheckWrite, "Create or change a check of a role.", nil),
			logical.ReadOperation:   operation(b.pathCheckRead, "Read a check.", checkAnswer()),
			logical.DeleteOperation: b.deletion(b.pathCheckExists, b.pathCheckDelete, "Delete a check."),
		},
		HelpSynopsis:    "Manage the checks of a role: HTTP requests to the application, which can stop a rotation, roll it back, or show whether retired values are refused.",
		HelpDescription: oneLine(checkHelp),
	}
}

func (b *backend) pathCheckList() *framework.Path {
	return &framework.Path{
		Pattern:      "checks/" + framework.GenericNameRegex("role") + "/?$",
		DisplayAttrs: attributes("list", "checks"),
		Fields:       map[string]*framework.FieldSchema{"role": nameField("Name of the role.")},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: operation(b.pathCheckListRead, "List the checks of a role.", listFields()),
		},
		HelpSynopsis:    "List the checks of a role.",
		HelpDescription: "Lists the names of a role's checks, with phase, url and on_failure.",
	}
}

func checkSchema() map[string]*framework.FieldSchema {
	def := check.Default()
	return map[string]*framework.FieldSchema{
		"role":                 nameField("Name of the role."),
		"name":                 nameField("Name of the check within the role."),
		"phase":                {Type: framework.TypeString, Default: def.Phase, AllowedValues: []any{check.Before, check.After, check.Retire}, Description: "before: the engine sends the request before a rotation changes anything. after: it sends requests after the commit. retire: it sends previous values after their overlap, before it destroys them, and the application must refuse them."},
		"url":                  field(framework.TypeString, "http or https address to send the request to."),
		"method":               {Type: framework.TypeString, Default: def.Method, Description: "HTTP method of the request."},
		"headers":              field(framework.TypeStringSlice, "Headers of the request, each like 'X-API-Key: {{api_key}}'. A placeholder contains the name of a field that creds returns for the role; or <secret>_token, for a token that the engine signs with the jwt secret of that name, valid for a minute. With phase=retire, also <secret>_previous_key, for the previous key of an api_key secret, and <secret>_previous_token, for such a token signed with the previous key of a jwt secret; the request must contain one of them."),
		"body":                 field(framework.TypeString, "Body of the request. It may contain the same placeholders as headers."),
		"expected_status":      field(framework.TypeCommaIntSlice, "HTTP status codes that count as success; 200 to 299 if left out. With phase=retire, those that count as a refusal; 401 and 403 if left out."),
		"expected_body":        field(framework.TypeString, "Text that the response must contain."),
		"tls_ca":               field(framework.TypeString, "CA certificates in PEM; the system's if left out."),
		"timeout":              {Type: framework.TypeDurationSecond, Default: rotation.Seconds(def.Timeout), Description: "How long to wait for the response to one request."},
		"delay":                field(framework.TypeDurationSecond, "With phase=after: time from the commit to the first request. Set it to the time that the application needs to read the new values."),
		"attempts":             {Type: framework.TypeInt, Default: def.Attempts, Description: "How many requests in a row must fail for the check to fail. With phase=retire: how many requests the engine sends at most, until one is refused."},
		"interval":             {Type: framework.TypeDurationSecond, Default: rotation.Seconds(def.Interval), Description: "Time between two requests."},
		"watch_period":         field(framework.TypeDurationSecond, "With phase=after: how long the engine goes on sending requests. If left out, the check ends with the first success."),
		"success_threshold":    {Type: framework.TypeInt, Default: def.SuccessThreshold, Description: "With phase=after: percentage of the requests within watch_period that must succeed. With 100, one failed request makes the check fail at the end of watch_period."},
		"samples":              field(framework.TypeInt, "With phase=after: how many requests the engine sends to measure the latency, once before the rotation and once at the end of watch_period; none if left out."),
		"concurrency":          {Type: framework.TypeInt, Default: def.Concurrency, Description: "With samples: how many of the requests run at the same time."},
		"percentile":           {Type: framework.TypeInt, Default: def.Percentile, Description: "With samples: the percentile of the latencies that the engine compares, before and after the rotation."},
		"max_latency_increase": {Type: framework.TypeInt, Default: def.MaxLatencyIncrease, Description: "With samples: the check fails if the latency at percentile grows by more than this many percent."},
		"on_failure":           {Type: framework.TypeString, Default: def.OnFailure, AllowedValues: []any{check.Rollback, check.Alert}, Description: "What a failed check does. rollback: with phase=before, the rotation does not begin; with phase=after, the engine rolls it back. alert: the rotation begins or stays, and the engine sends the event application_degraded. With phase=retire, only alert is possible, and is the default."},
	}
}

func checkAnswer() map[string]*framework.FieldSchema {
	fields := checkSchema()
	delete(fields, "role")
	delete(fields, "name")
	maskedFields(fields, "headers", "body")
	fields["outbound"] = standingField()
	return fields
}

func (b *backend) pathCheckExists(ctx context.Context, _ *logical.Request, d *framework.FieldData) (bool, error) {
	r, err := b.registry.Get(ctx, roles.Prefix, d.Get("role").(string))
	return r != nil && r.Snapshot().Checks[d.Get("name").(string)] != nil, err
}

// pathCheckWrite corresponds to CREATE and UPDATE on checks/:role/:name.
func (b *backend) pathCheckWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.findRole(ctx, d.Get("role").(string))
	if err != nil {
		return nil, err
	}
	b.configuring.Lock()
	defer b.configuring.Unlock()
	known, err := b.destinations.Named(ctx, r.Snapshot().Destinations)
	if err != nil {
		return nil, err
	}
	name := d.Get("name").(string)
	var stored check.Config
	if err := r.SetCheck(ctx, b.configureRecord(req), name, func(s *rotation.State) (err error) {
		stored, err = draftCheck(s.Checks[name], d)
		if err := cmp.Or(err, checkAlike("name", name, check.Names(s))); err != nil {
			return err
		}
		return b.checks.Set(ctx, s, r.Snapshot().Resolved, name, stored, publish.Deadlines(known))
	}); err != nil {
		return nil, err
	}
	return warned(stored.Doubts(b.mountPath(), r.Snapshot().Resolved.RefreshInterval), nil)
}

// draftCheck is what the request makes of a check, which is nil if it is new.
func draftCheck(stored json.RawMessage, d *framework.FieldData) (check.Config, error) {
	c, before := check.Default(), outbound.Way{}
	if stored != nil {
		var err error
		if c, err = check.Decode(stored); err != nil {
			return c, err
		}
		before = checkWay(c)
	}
	takeCheck(d, &c)
	if _, given := d.GetOk("on_failure"); !given && c.Phase == check.Retire {
		c.OnFailure = check.Alert
	}
	return c, givenAgain(d, before, checkWay(c))
}

// checkWay is how the requests of a check are sent.
func checkWay(c check.Config) outbound.Way {
	return outbound.Way{
		To:    map[string]string{"url": c.URL, "tls_ca": c.TLSCA},
		Along: map[string]string{"headers": strings.Join(c.Headers, "\n"), "body": c.Body},
	}
}

// takeCheck takes over the fields that the request names.
func takeCheck(d *framework.FieldData, c *check.Config) {
	for name, target := range map[string]*string{
		"phase": &c.Phase, "url": &c.URL, "method": &c.Method, "body": &c.Body,
		"expected_body": &c.ExpectedBody, "tls_ca": &c.TLSCA, "on_failure": &c.OnFailure,
	} {
		takeString(d, name, target)
	}
	for name, target := range map[string]*int{
		"attempts": &c.Attempts, "success_threshold": &c.SuccessThreshold, "samples": &c.Samples,
		"concurrency": &c.Concurrency, "percentile": &c.Percentile, "max_latency_increase": &c.MaxLatencyIncrease,
	} {
		takeNumber(d, name, target)
	}
	for name, target := range map[string]*time.Duration{
		"timeout": &c.Timeout, "delay": &c.Delay, "interval": &c.Interval, "watch_period": &c.WatchPeriod,
	} {
		takeSeconds(d, name, target)
	}
	takeStrings(d, "headers", &c.Headers)
	if v, ok := d.GetOk("expected_status"); ok {
		c.ExpectedStatus = v.([]int)
	}
}

// pathCheckRead corresponds to READ on checks/:role/:name.
func (b *backend) pathCheckRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.registry.Get(ctx, roles.Prefix, d.Get("role").(string))
	if err != nil || r == nil {
		return nil, err
	}
	stored := r.Snapshot().Checks[d.Get("name").(string)]
	if stored == nil {
		return nil, nil
	}
	c, err := check.Decode(stored)
	if err != nil {
		return nil, fmt.Errorf("read check of %s: %w", r.Key, err)
	}
	rule, err := b.rule(ctx, outbound.ForChecks)
	if err != nil {
		return nil, err
	}
	data := map[string]any{
		"phase": c.Phase, "url": c.URL, "method": c.Method,
		"expected_status": c.ExpectedStatus, "expected_body": c.ExpectedBody, "tls_ca": c.TLSCA,
		"timeout": rotation.Seconds(c.Timeout), "delay": rotation.Seconds(c.Delay), "attempts": c.Attempts, "interval": rotation.Seconds(c.Interval),
		"watch_period": rotation.Seconds(c.WatchPeriod), "success_threshold": c.SuccessThreshold,
		"samples": c.Samples, "concurrency": c.Concurrency, "percentile": c.Percentile,
		"max_latency_increase": c.MaxLatencyIncrease, "on_failure": c.OnFailure,
	}
	showMasked(data, "headers", append([]string{}, c.Headers...), shownHeaders(c.Headers))
	showMasked(data, "body", c.Body, shownText(c.Body))
	return shown(data, c.Standing(rule)), nil
}

// shownHeaders hides what might be a secret.
func shownHeaders(headers []string) []string {
	shown := make([]string, 0, len(headers))
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ":")
		shown = append(shown, name+": "+shownText(value))
	}
	return shown
}

// literal is what stands outside of placeholders.
var literal = regexp.MustCompile(`\{\{[^{}]*\}\}|[^{]+|\{`)

// shownText hides all of a text but its placeholders.
func shownText(text string) string {
	shown := literal.ReplaceAllStringFunc(strings.TrimSpace(text), func(part string) string {
		if strings.HasPrefix(part, "{{") {
			return part
		}
		return mask
	})
	return regexp.MustCompile(mask+"+").ReplaceAllString(shown, mask)
}

// pathCheckDelete corresponds to DELETE on checks/:role/:name.
func (b *backend) pathCheckDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.registry.Get(ctx, roles.Prefix, d.Get("role").(string))
	name := d.Get("name").(string)
	if err != nil || r == nil || r.Snapshot().Checks[name] == nil {
		return nil, err
	}
	return nil, r.SetCheck(ctx, b.configureRecord(req), name, func(s *rotation.State) error {
		delete(s.Checks, name)
		return nil
	})
}

// pathCheckListRead corresponds to LIST on checks/:role.
func (b *backend) pathCheckListRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.findRole(ctx, d.Get("role").(string))
	if err != nil {
		return nil, err
	}
	s, info := r.Snapshot(), map[string]any{}
	for name, stored := range s.Checks {
		c, err := check.Decode(stored)
		if err != nil {
			return nil, err
		}
		info[name] = map[string]any{"phase": c.Phase, "url": c.URL, "on_failure": c.OnFailure}
	}
	return listResponse(check.Names(s.State), info), nil
}

const checkHelp = `
A check is an HTTP request that tells whether the application works. With phase=before,
the engine sends it before a rotation changes anything; if the check fails, the rotation
does not begin, unless on_failure=alert. With phase=after, the engine sends it after the
commit, and repeats it every interval until watch_period is over. The check fails as
soon as several requests in a row fail (3 by default; see attempts), or at the end of
watch_period if too few succeeded (by default, all must succeed; see success_threshold).
With on_failure=rollback, the default, the engine then makes the previous values current
again, as a new version. With samples, the engine also measures latencies before the
rotation and at the end of watch_period; the check fails if they grow by more than
max_latency_increase percent. Use placeholders such as {{api_key}} for the role's values
in headers and body, and write no secret there in clear text. If a check has headers, a
body, or a method other than GET and HEAD, outbound_hosts of config must name the host
of url, and url must begin with https unless its host is localhost or a loopback
address. If you change url or tls_ca, give headers and body again. For a rollback and
for a rotation with revoke_previous, the engine runs no checks with phase=before. It
runs those with phase=after, but if they fail, it only sends the event
application_degraded. With phase=retire, the engine asks the application to refuse the
previous values. When their overlap has ended, creds no longer returns them, and the
engine's own verify refuses them. One refresh_interval later, so that the application
has read again, the engine sends the request, at most attempts times. If the first clear
answer is a refusal, it stops there. If one request is accepted, it sends them all, and
the application counts as refusing only if the last two or more are refused. Then the engine
destroys the values, whatever the answer was. If the application accepted them, the engine sends the event
retired_value_accepted; if it gave no clear answer, application_degraded. The record of the rotation has the answer.`
