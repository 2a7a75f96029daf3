package backend

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt"
)

// Each take reads a field of a request into its target, if the request names it.

func takeString(d *framework.FieldData, name string, target *string) {
	if v, ok := d.GetOk(name); ok {
		*target = v.(string)
	}
}

func takeNumber(d *framework.FieldData, name string, target *int) {
	if v, ok := d.GetOk(name); ok {
		*target = v.(int)
	}
}

func takeBool(d *framework.FieldData, name string, target *bool) {
	if v, ok := d.GetOk(name); ok {
		*target = v.(bool)
	}
}

func takeStrings(d *framework.FieldData, name string, target *[]string) {
	if v, ok := d.GetOk(name); ok {
		*target = v.([]string)
	}
}

// takeSeconds takes over a duration, in whole seconds.
func takeSeconds(d *framework.FieldData, name string, target *time.Duration) {
	if v, ok := d.GetOk(name); ok {
		*target = time.Duration(v.(int)) * time.Second
	}
}

// takeDuration is takeSeconds for what has to be more than zero.
func takeDuration(d *framework.FieldData, name string, target *time.Duration) error {
	v, ok := d.GetOk(name)
	if !ok {
		return nil
	}
	if v.(int) <= 0 {
		return rotation.Invalid(name, "is %v; it must be more than zero", v)
	}
	*target = time.Duration(v.(int)) * time.Second
	return nil
}

// takeInt is takeNumber with bounds.
func takeInt(d *framework.FieldData, name string, target *int, lowest, highest int) error {
	v, ok := d.GetOk(name)
	if !ok {
		return nil
	}
	if v.(int) < lowest || v.(int) > highest {
		return rotation.Invalid(name, "is %d; it must be from %d to %d", v, lowest, highest)
	}
	*target = v.(int)
	return nil
}

// given is the text of a field, nil if the request does not name it.
func given(d *framework.FieldData, name string) *string {
	v, ok := d.GetOk(name)
	if !ok {
		return nil
	}
	text := v.(string)
	return &text
}

// checkLine refuses what makes a line of text look otherwise than it is: people read
// history on terminals, and line breaks, sequences that move the cursor and marks of
// direction would forge what they see there.
func checkLine(name, text string) error {
	for _, r := range text {
		if unicode.In(r, unicode.Cc, unicode.Bidi_Control) {
			return rotation.Invalid(name, "contains U+%04X, a line break or control character: leave it out", r)
		}
	}
	return nil
}

// takeLine reads what people write for other people, in one line of at most so many bytes.
func takeLine(d *framework.FieldData, name string, limit int) (string, error) {
	line := strings.TrimSpace(d.Get(name).(string))
	if len(line) > limit {
		return "", rotation.Invalid(name, "is %d bytes long; the limit is %d", len(line), limit)
	}
	return line, checkLine(name, line)
}

// takeObject reads a field that takes a JSON object: as itself, as programs give
// it, or as its text, as the vault command does.
func takeObject(name string, value any) (map[string]any, error) {
	if text, ok := value.(string); ok {
		if err := checkString(name, text); err != nil {
			return nil, err
		}
		object, err := jwt.DecodeClaims(name, text)
		if err != nil {
			return nil, err
		}
		value = object
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, rotation.Invalid(name, "is not a JSON object")
	}
	if text, err := json.Marshal(object); err != nil || len(text) > maxFieldLength {
		return nil, rotation.Invalid(name, "is longer than the limit of %d bytes", maxFieldLength)
	}
	return object, checkTexts(name, object)
}

// checkTexts is checkString for all texts in an object.
func checkTexts(name string, value any) error {
	switch v := value.(type) {
	case string:
		return checkString(name, v)
	case []any:
		for _, element := range v {
			if err := checkTexts(name, element); err != nil {
				return err
			}
		}
	case map[string]any:
		for key, element := range v {
			if err := cmp.Or(checkString(name, key), checkTexts(name, element)); err != nil {
				return err
			}
		}
	}
	return nil
}

// givenAgain refuses a request that has stored secrets go another way without giving them
// again.
func givenAgain(d *framework.FieldData, before, after outbound.Way) error {
	needed, because := before.Needed(after, func(setting string) bool {
		_, given := d.GetOk(setting)
		return given
	})
	if needed == "" {
		return nil
	}
	return rotation.Invalid(needed, "must be given again, because %s changes where it is sent", because)
}

// mask stands for text that is not shown.
const mask = "…"

// showMasked answers a field as it was written, so that it can be written again. If that
// may be secret, it answers what is shown of it, under another name.
func showMasked[T any](data map[string]any, name string, written, shown T) {
	if strings.Contains(fmt.Sprint(shown), mask) {
		data[name+"_masked"] = shown
		return
	}
	data[name] = written
}

// maskedFields declares what showMasked answers of fields that are declared.
func maskedFields(fields map[string]*framework.FieldSchema, names ...string) {
	for _, name := range names {
		fields[name+"_masked"] = field(fields[name].Type, "Returned instead of "+name+" if part of it may be secret; "+mask+" stands for what is not shown.")
	}
}

// shownURL hides all of an address that is more than its host.
func shownURL(url string) string {
	if host := outbound.Host(url); strings.TrimSuffix(url, "/") != host {
		return host + "/" + mask
	}
	return url
}

// standingField declares what shown answers.
func standingField() *framework.FieldSchema {
	return field(framework.TypeString, "Whether outbound_hosts of config lets the engine send requests to this host. free: yes, because they carry no value and no credential. listed: yes, because outbound_hosts names the host. kept: yes, because an earlier version stored this entry, and nobody has written it or outbound_hosts since. refused: no.")
}

// shown answers an entry, and how it stands by the rule.
func shown(data map[string]any, standing string) *logical.Response {
	data["outbound"] = standing
	resp := &logical.Response{Data: data}
	switch standing {
	case outbound.Kept:
		resp.AddWarning("outbound_hosts of config does not name where this is sent. The engine still sends it, because an earlier version stored it. Name the host in outbound_hosts: the next write to outbound_hosts, or to this entry, ends the exception")
	case outbound.Refused:
		resp.AddWarning("the engine sends nothing there, because outbound_hosts of config does not name the host. An administrator of the mount can add it")
	}
	return resp
}

// operation declares one operation of a path: what it does in a sentence, and
// the fields of its answer. Whoever only reads may be served by any node.
func operation(handler framework.OperationFunc, summary string, fields map[string]*framework.FieldSchema) *framework.PathOperation {
	return &framework.PathOperation{
		Callback:  handler,
		Summary:   summary,
		Responses: responses(fields),
	}
}

// mutation is operation for what changes something: only the node that may write
// serves it.
func mutation(handler framework.OperationFunc, summary string, fields map[string]*framework.FieldSchema) *framework.PathOperation {
	op := operation(handler, summary, fields)
	op.ForwardPerformanceStandby = true
	op.ForwardPerformanceSecondary = true
	return op
}

// deletion is mutation for what deletes the entry at a path. It warns if there is none:
// the vault command calls it a success, whatever a name was misspelt for.
func (b *backend) deletion(exists framework.ExistenceFunc, handler framework.OperationFunc, summary string) *framework.PathOperation {
	return mutation(func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		found, err := exists(ctx, req, d)
		nothing := err == nil && !found // the handler says what is wrong with a damaged one
		resp, err := handler(ctx, req, d)
		if nothing && resp == nil && err == nil {
			list := preflight.Command("vault", "list", b.mountPath()+path.Dir(req.Path))
			return warned([]string{fmt.Sprintf("nothing was deleted: there is nothing at %s. To see what there is: %s", req.Path, list)}, nil)
		}
		return resp, err
	}, summary, nil)
}

// responses declares the answer of an operation; without fields it is empty.
func responses(fields map[string]*framework.FieldSchema) map[int][]framework.Response {
	if fields == nil {
		return map[int][]framework.Response{http.StatusNoContent: {{Description: http.StatusText(http.StatusNoContent)}}}
	}
	return map[int][]framework.Response{http.StatusOK: {{Description: http.StatusText(http.StatusOK), Fields: fields}}}
}

// listFields is the answer of every list.
func listFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"keys":     {Type: framework.TypeStringSlice, Description: "The names."},
		"key_info": {Type: framework.TypeMap, Description: "The most important facts about each name."},
	}
}

// attributes names the operations of a path for OpenAPI. The suffix has one part
// for each permutation of the pattern, separated by a bar.
func attributes(verb, suffix string) *framework.DisplayAttributes {
	return &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: verb, OperationSuffix: suffix}
}

// field declares a field of a request or an answer.
func field(t framework.FieldType, description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: t, Description: description}
}

// nameField declares a name that is part of the path.
func nameField(description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: framework.TypeString, Description: description, Required: true}
}

// defaultRole is the role that paths without a role act on.
const defaultRole = "default"

// roleName returns the role that a request is about.
func roleName(d *framework.FieldData) string {
	if name := d.Get("role").(string); name != "" {
		return name
	}
	return defaultRole
}

// optionalRole is the pattern for paths that act on the default role when they
// end before its name. framework.OptionalParamRegex would also take creds/a/b.
func optionalRole(path string) string { return path + "(/" + framework.GenericNameRegex("role") + ")?" }

// oneLine removes the line breaks that make long help texts readable in source.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// listResponse answers a list, with what is known about each name.
func listResponse(names []string, info map[string]any) *logical.Response {
	return logical.ListResponseWithInfo(names, info)
}

// textResponse answers bytes as they are, not as JSON.
func textResponse(contentType string, body []byte) *logical.Response {
	return &logical.Response{Data: map[string]any{
		logical.HTTPStatusCode: http.StatusOK, logical.HTTPContentType: contentType, logical.HTTPRawBody: body,
	}}
}
