package backend

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
	return brief(resp, nil)
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
		if err := b.loose.check(req.Path); err != nil {
			return nil, err
		}
	}
	if path == nil || req.Operation == logical.HelpOperation {
		return path, nil
	}
	if public(path) {
		req.Data = nil
		return path, nil
	}
	return path, checkFields(path, req.Data)
}

// checkFields refuses fields that the path does not know, since a misspelt one
// would be a setting that is not in force, and text that nothing here can hold.
func checkFields(path *framework.Path, data map[string]any) error {
	for name, value := range data {
		field := path.Fields[name]
		if field == nil {
			return rotation.Invalid(strings.Trim(strconv.Quote(name), `"`), "is not a field of this path; it has: %s", strings.Join(fieldNames(path), ", "))
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
		if err := checkDuration(name, field, value); err != nil {
			return err
		}
	}
	return nil
}

// checkDuration refuses what the framework does not read as a duration, with the units
// that it does; of other fields it checks nothing.
func checkDuration(name string, field *framework.FieldSchema, value any) error {
	if field.Type != framework.TypeDurationSecond {
		return nil
	}
	read := func(t framework.FieldType) error {
		data := framework.FieldData{Raw: map[string]any{name: value}, Schema: map[string]*framework.FieldSchema{name: {Type: t}}}
		_, _, err := data.GetOkErr(name)
		return err
	}
	err := read(field.Type)
	switch {
	case err == nil:
		return nil
	case read(framework.TypeSignedDurationSecond) == nil:
		return rotation.Invalid(name, "%q is negative: write a number of seconds, or a number with a unit: %s", fmt.Sprint(value), units)
	case strings.Contains(err.Error(), "overflow"):
		return rotation.Invalid(name, "%.100q is too long a duration", fmt.Sprint(value))
	}
	return rotation.Invalid(name, "%.100q is not a duration: write a number of seconds, or a number with a unit: %s", fmt.Sprint(value), units)
}

// units are examples of durations, one for each unit.
const units = "90d, 12h, 30m, 45s"

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

// nameRule is what framework.GenericNameRegex takes, but for relative paths, which
// Vault's storage refuses.
const nameRule = "may only have letters (A to Z, a to z), digits, _, - and .; it must begin and end with a letter, a digit or _, and have no two dots in a row"

var wellNamed = regexp.MustCompile("^" + framework.GenericNameRegex("name") + "$")

// relative tells whether Vault's storage would refuse a key, or a path its names.
func relative(path string) bool { return strings.Contains(path, "..") }

// loosePaths are the patterns of all paths, with anything where they have a name.
type loosePaths []*regexp.Regexp

func newLoosePaths(paths []*framework.Path) (loose loosePaths) {
	for _, path := range paths {
		pattern := path.Pattern
		for name := range path.Fields {
			pattern = strings.ReplaceAll(pattern, framework.GenericNameRegex(name), "(?P<"+name+">[^/]+)")
		}
		loose = append(loose, regexp.MustCompile("^(?:"+pattern+")$"))
	}
	return loose
}

// check refuses what would be a path, if it were not for a name.
func (l loosePaths) check(path string) error {
	for _, loose := range l {
		found := loose.FindStringSubmatch(path)
		if found == nil {
			continue
		}
		for i, field := range loose.SubexpNames() {
			if name := found[i]; field != "" && name != "" && (relative(name) || !wellNamed.MatchString(name)) {
				return rotation.Invalid(field, "%.100q is no name: it %s", name, nameRule)
			}
		}
	}
	return nil
}
