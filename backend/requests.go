package backend

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/errutil"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// maxFieldLength is the longest text a request may carry in one field.
const maxFieldLength = 64 << 10

// maxBundle is the same for certificates of authorities: a provider's bundle for all of
// its regions has more. With what else an entry has it fits into one of storage.
const maxBundle = 512 << 10

// limitOf is the longest text that a field may carry.
func limitOf(field string) int {
	if field == "tls_ca" {
		return maxBundle
	}
	return maxFieldLength
}

// HandleRequest checks what holds for every path before the framework sees the
// request, and maps the errors of all of them afterwards.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	if req.Operation == logical.RollbackOperation {
		return b.Backend.HandleRequest(ctx, req)
	}
	b.noteMount(req)
	path, err := b.checkRequest(req)
	if err != nil {
		return brief(errorResponse(err))
	}
	resp, err := b.fastPaths.handle(ctx, b.Backend, path, req)
	if err != nil {
		return brief(errorResponse(err))
	}
	return brief(withoutUnit(req, resp), nil)
}

// shortest are durations below which a number without a unit most likely lacks the unit.
var shortest = map[string]time.Duration{
	"rotation_period": time.Hour, "overlap": time.Minute, "overlap_limit": time.Minute, "notice": time.Hour, "max_ttl": 10 * time.Second, "drain_timeout": 10 * time.Second,
}

// longest is above what a number without a unit was most likely meant to be.
const longest = 2 * 365 * 24 * time.Hour

// withoutUnit warns of numbers that were most likely meant as days, hours or milliseconds,
// and are taken as seconds.
func withoutUnit(req *logical.Request, resp *logical.Response) *logical.Response {
	if resp.IsError() {
		return resp
	}
	var warnings []string
	for name, value := range req.Data {
		least, ok := shortest[name]
		if !ok {
			continue
		}
		n, err := strconv.Atoi(fmt.Sprint(value))
		switch span := time.Duration(n) * time.Second; {
		case err != nil || n <= 0:
		case span > longest:
			warnings = append(warnings, fmt.Sprintf("%s is %s, because a number without a unit is in seconds. Write for example %s=90d", name, rotation.Span(span.Truncate(24*time.Hour)), name))
		case span < least:
			warnings = append(warnings, fmt.Sprintf("%s is %d seconds, because a number without a unit is in seconds. For days or hours, write %s=%dd or %s=%dh", name, n, name, n, name, n))
		}
	}
	if len(warnings) == 0 {
		return resp
	}
	if resp == nil {
		resp = &logical.Response{}
	}
	slices.Sort(warnings)
	resp.Warnings = append(resp.Warnings, warnings...)
	return resp
}

// HandleExistenceCheck leaves it to HandleRequest to say what is wrong with a
// request: the framework would do it here, and show the values, secret or not.
func (b *backend) HandleExistenceCheck(ctx context.Context, req *logical.Request) (found, exists bool, err error) {
	path, err := b.checkRequest(req)
	if err != nil || path == nil || path.ExistenceCheck == nil {
		return false, false, nil //nolint:nilerr // HandleRequest says it
	}
	found, exists, err = b.Backend.HandleExistenceCheck(ctx, req)
	if _, wrong := err.(errutil.UserError); wrong { //nolint:errorlint // as the framework returns it
		return false, false, nil
	}
	return found, exists, err
}

// maxPath is the longest path: no name needs more, and to match a path against
// the patterns takes time that grows with it.
const maxPath = 512

// checkRequest refuses what no path takes, and returns the path of the request.
func (b *backend) checkRequest(req *logical.Request) (*framework.Path, error) {
	if len(req.Path) > maxPath {
		return nil, rotation.Invalid("path", "is %d bytes long; the limit is %d", len(req.Path), maxPath)
	}
	path := b.Route(req.Path)
	if path == nil || relative(req.Path) {
		if err := b.shapes.checkNames(req.Path); err != nil {
			return nil, err
		}
	}
	if verbs[req.Operation] == "" {
		return path, nil
	}
	if path == nil {
		if listed := b.Route(strings.TrimSuffix(req.Path, "/")); listed != nil && listed.Operations[req.Operation] == nil {
			return nil, unsupported(listed, req)
		}
		return nil, b.shapes.unknown(req)
	}
	if public(path) {
		req.Data = nil
		return path, nil
	}
	if path.Operations[req.Operation] == nil {
		return nil, unsupported(path, req)
	}
	return path, checkFields(path, req.Data)
}

// checkFields refuses fields that the path does not know, since a misspelt one
// would be a setting that is not in force, and text that nothing here can hold.
func checkFields(path *framework.Path, data map[string]any) error {
	for name, value := range data {
		field := path.Fields[name]
		if field == nil {
			names := fieldNames(path)
			return rotation.Invalid(strings.Trim(strconv.Quote(name), `"`), "is not a field of this path%s; it has: %s", meant(name, names), strings.Join(names, ", "))
		}
		if inPath(path, name) {
			return rotation.Invalid(name, "belongs in the path; beside the path it would have no effect")
		}
		if field.Type == framework.TypeMap {
			object, err := takeObject(name, value)
			if err != nil {
				return err
			}
			data[name] = object
			continue
		}
		if _, isList := value.([]any); isList && !slices.Contains(listTypes, field.Type) {
			return rotation.Invalid(name, "is a list; give one text or number")
		}
		check := checkValue
		if field.Type == framework.TypeKVPairs {
			check = checkTexts
			if value == "" { // as the vault command writes that there are none
				value = map[string]any{}
				data[name] = value
			}
		}
		if err := check(name, value); err != nil {
			return err
		}
		if err := checkType(name, field, value); err != nil {
			return err
		}
		if err := checkLineEnd(path, name, value); err != nil {
			return err
		}
	}
	return nil
}

// checkLineEnd refuses a secret of one line that is to be stored with a line break at its
// end: it is the file's, which key=@file passes along, and others who read the file leave
// it out. To leave it out here would be as wrong for those who do not.
func checkLineEnd(path *framework.Path, name string, value any) error {
	about := path.Fields[name].DisplayAttrs
	text, _ := value.(string)
	if path.Operations[logical.CreateOperation] == nil || about == nil || !about.Sensitive || strings.Index(text, "\n") != len(text)-1 || text == "" {
		return nil
	}
	return rotation.Invalid(name, `ends in a line break, as files do, and the engine would use it with the line break. Pass it without: printf %%s "$(cat FILE)" | vault write … %s=-`, name)
}

// checkType refuses what the framework does not read as the type of a field, and says
// how to write it.
func checkType(name string, field *framework.FieldSchema, value any) error {
	form, checked := forms[field.Type]
	if !checked {
		return nil
	}
	read := func(t framework.FieldType) error {
		data := framework.FieldData{Raw: map[string]any{name: value}, Schema: map[string]*framework.FieldSchema{name: {Type: t}}}
		_, _, err := data.GetOkErr(name)
		return err
	}
	err, isDuration := read(field.Type), field.Type == framework.TypeDurationSecond
	switch {
	case err == nil:
		return nil
	case isDuration && read(framework.TypeSignedDurationSecond) == nil:
		return rotation.Invalid(name, "%q is negative: %s", fmt.Sprint(value), form.advice)
	case isDuration && strings.Contains(err.Error(), "overflow"):
		return rotation.Invalid(name, "%.100q is too long a duration", fmt.Sprint(value))
	}
	return rotation.Invalid(name, "%.100q is not %s: %s", fmt.Sprint(value), form.noun, form.advice)
}

// forms say what a field takes that does not take any text, and how to write it.
var forms = map[framework.FieldType]struct{ noun, advice string }{
	framework.TypeBool:           {"a boolean", "write true or false"},
	framework.TypeInt:            {"a whole number", "write digits only, such as 3"},
	framework.TypeCommaIntSlice:  {"a list of whole numbers", "separate them by commas, such as 200,204"},
	framework.TypeDurationSecond: {"a duration", "write a number of seconds, or a number with a unit: 90d, 12h, 30m, 45s"},
}

// listTypes are the types of fields that take a list.
var listTypes = []framework.FieldType{framework.TypeStringSlice, framework.TypeCommaStringSlice, framework.TypeKVPairs}

func checkValue(name string, value any) error {
	switch v := value.(type) {
	case string:
		return checkString(name, v)
	case []any:
		for _, element := range v {
			if err := checkValue(name, element); err != nil {
				return err
			}
		}
	case map[string]any:
		return rotation.Invalid(name, "is an object; give a string, a number, a boolean or a list")
	}
	return nil
}

// checkString refuses what no field can hold. Vault turns bytes that are not
// UTF-8 into the replacement character before a plugin sees them.
func checkString(name, v string) error {
	switch {
	case len(v) > limitOf(name):
		return rotation.Invalid(name, "is %d bytes long; the limit is %d", len(v), limitOf(name))
	case !utf8.ValidString(v) || strings.ContainsRune(v, utf8.RuneError):
		return rotation.Invalid(name, "is not valid UTF-8")
	case strings.ContainsRune(v, 0):
		return rotation.Invalid(name, "contains a NUL byte")
	}
	return nil
}

// fieldNames lists the fields that belong in a request's body.
func fieldNames(path *framework.Path) []string {
	var names []string
	for name := range path.Fields {
		if !inPath(path, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return []string{"none"}
	}
	return names
}

// inPath tells whether a field is a part of the path itself.
func inPath(path *framework.Path, name string) bool {
	return strings.Contains(path.Pattern, "(?P<"+name+">")
}
