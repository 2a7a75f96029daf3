package backend

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/input"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// verbs are the commands of vault for the operations that people ask for.
var verbs = map[logical.Operation]string{
	logical.ReadOperation: "read", logical.HeaderOperation: "read", logical.ListOperation: "list",
	logical.CreateOperation: "write", logical.UpdateOperation: "write", logical.PatchOperation: "patch", logical.DeleteOperation: "delete",
}

// nameRule is what framework.GenericNameRegex takes, but for relative paths, which
// Vault's storage refuses.
const nameRule = "may only have letters (A to Z, a to z), digits, _, - and .; it must begin and end with a letter, a digit or _, and have no two dots in a row"

var wellNamed = regexp.MustCompile("^" + framework.GenericNameRegex("name") + "$")

// relative tells whether Vault's storage would refuse a key, or a path its names.
func relative(path string) bool { return strings.Contains(path, "..") }

// checkAlike refuses a new name that differs from an existing one of its kind only in upper
// and lower case.
func checkAlike(field, name string, existing []string) error {
	i := slices.IndexFunc(existing, func(other string) bool { return strings.EqualFold(other, name) })
	if i < 0 || slices.Contains(existing, name) {
		return nil
	}
	return rotation.Invalid(field, "%q differs from %q, which exists, only in upper and lower case, so people and file systems take one for the other: use %q, or choose another name", name, existing[i], existing[i])
}

// roleNames is what a name of a role, with * for any text, may consist of.
var roleNames = regexp.MustCompile(`^[\w.*-]+$`)

// checkAllowedRoles refuses what no role can be called, and so would allow nothing.
func checkAllowedRoles(d *framework.FieldData) error {
	for _, name := range d.Get("allowed_roles").([]string) {
		if !roleNames.MatchString(name) || !strings.Contains(name, "*") && !wellNamed.MatchString(name) {
			return rotation.Invalid("allowed_roles", "%.100q is no name of a role, nor a pattern with *: separate names by commas, such as default,orders", name)
		}
	}
	return nil
}

// shape is what a path looks like.
type shape struct {
	*framework.Path
	// title is how documents write it, such as creds/<role>/<name>.
	title string
	// loose is its pattern, with anything where it has a name.
	loose *regexp.Regexp
}

// first is the word that a path begins with.
func (s shape) first() string {
	first, _, _ := strings.Cut(s.title, "/")
	return strings.TrimSuffix(first, "[")
}

// shapes are those of all paths of the engine.
type shapes []shape

func newShapes(paths []*framework.Path) (all shapes) {
	for _, path := range paths {
		loose, title := path.Pattern, strings.NewReplacer(`\.`, ".", "/?$", "", "(/", "[/", ")?", "]", "^", "", "$", "").Replace
		named := path.Pattern
		for name := range path.Fields {
			loose = strings.ReplaceAll(loose, framework.GenericNameRegex(name), "(?P<"+name+">[^/]+)")
			named = strings.ReplaceAll(named, framework.GenericNameRegex(name), "<"+name+">")
		}
		all = append(all, shape{path, title(named), regexp.MustCompile("^(?:" + loose + ")$")})
	}
	return all
}

// checkNames refuses what would be a path, if it were not for a name.
func (all shapes) checkNames(path string) error {
	for _, s := range all {
		found := s.loose.FindStringSubmatch(path)
		if found == nil {
			continue
		}
		for i, field := range s.loose.SubexpNames() {
			if name := found[i]; field != "" && name != "" && (relative(name) || !wellNamed.MatchString(name)) {
				return rotation.Invalid(field, "%.100q is no name: it %s", name, nameRule)
			}
		}
	}
	return nil
}

// unknown is the answer to a request that no path takes. Of a 404, the vault command would
// show "No value found", as if the path were right.
func (all shapes) unknown(req *logical.Request) error {
	first, _, _ := strings.Cut(req.Path, "/")
	var words, similar []string
	for _, s := range all {
		words = append(words, s.first())
		if s.first() == first {
			similar = append(similar, s.title)
		}
	}
	slices.Sort(words)
	words = slices.Compact(words)
	switch {
	case req.Path == "" && req.Operation == logical.ListOperation:
		return rotation.Invalid("path", "is missing; you can list: %s", strings.Join(all.titles(logical.ListOperation), ", "))
	case req.Path == "":
		return rotation.Invalid("path", "is missing; paths begin with: %s", strings.Join(words, ", "))
	case len(similar) > 0:
		slices.Sort(similar)
		return rotation.Invalid("path", "%.100q is no path of this engine; those that begin with %s are: %s", req.Path, first, strings.Join(slices.Compact(similar), ", "))
	}
	return rotation.Invalid("path", "%.100q is no path of this engine%s; paths begin with: %s", req.Path, meant(first, words), strings.Join(words, ", "))
}

// titles are the paths that have an operation.
func (all shapes) titles(op logical.Operation) (titles []string) {
	for _, s := range all {
		if s.Operations[op] != nil {
			titles = append(titles, s.title)
		}
	}
	slices.Sort(titles)
	return titles
}

// unsupported is the answer to an operation that the path does not have.
func unsupported(path *framework.Path, req *logical.Request) error {
	var has []string
	for op := range maps.Keys(path.Operations) {
		has = append(has, verbs[op])
	}
	slices.Sort(has)
	return logical.CodedError(http.StatusMethodNotAllowed, fmt.Sprintf("path: %.100s does not support %s; it supports: %s", req.Path, verbs[req.Operation], strings.Join(slices.Compact(has), ", ")))
}

// meant is a question that names the one of names that a text was most likely meant to be;
// "" if none is near.
func meant(text string, names []string) string {
	if name := input.Nearest(text, names); name != "" {
		return " (did you mean " + name + "?)"
	}
	return ""
}
