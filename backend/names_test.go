package backend

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// noNames can't be names of anything. Vault's storage refuses the first ones, and
// patterns of paths the others.
var noNames = []string{
	"a..b", "a...b", "a..b..c", "a b", " a", "a ", "a+b", "a@b", "a:b", "a%b", "a'b", `a"b`, `a\b`, "a;b", "a*", "a,b", "a?b", "a#b", "a&b", "a=b", "a~", "(a)", "{a}", "<a>", "$a",
	"é", "名", "a\nb", "a\tb", "a\u00a0b", "-a", "a-", ".a", "a.", "-", ".", "..", "...",
}

// TestNamesOfPaths has, in turn, each kind of name in each path be one that is none:
// whatever the operation, the refusal names the field and the rule.
func TestNamesOfPaths(t *testing.T) {
	m := newMount(t)
	before := m.storage.contents(t)
	tried := map[string]bool{}
	for _, path := range m.b.Paths {
		names := slices.DeleteFunc(slices.Collect(maps.Keys(path.Fields)), func(name string) bool { return !inPath(path, name) })
		for _, name := range names {
			for _, bad := range noNames {
				at := pathWith(path, name, bad)
				for op := range path.Operations {
					if _, _, err := m.b.HandleExistenceCheck(t.Context(), m.request(op, at, nil)); err != nil {
						t.Errorf("%s %q: %v", op, at, err)
					}
					m.refused(op, at, nil, name+":", fmt.Sprintf("%.100q", bad), "letters", "no two dots in a row")
				}
			}
			tried[strings.SplitN(path.Pattern, "/", 2)[0]+" "+name] = true
		}
	}
	if len(tried) < 20 {
		t.Errorf("only these were tried: %v", slices.Sorted(maps.Keys(tried)))
	}
	if !maps.Equal(m.storage.contents(t), before) {
		t.Error("something was stored")
	}
	for _, path := range []string{"rolls/a b", "roles/a/b", "a..b", "roles/a..b/c", "jwks/a"} {
		if resp, err := m.try(logical.ReadOperation, path, nil); err == nil && !resp.IsError() {
			t.Errorf("%s answers %v", path, resp)
		}
	}
	for _, name := range []string{"a", "_", "9", "a.b", "a-b_c.d", "_a_", "a-.b", strings.Repeat("a", 256)} {
		m.write("roles/"+name, nil)
		m.read("roles/"+name, nil)
	}
}

// TestNamesInFields has each field of each path name what can't be there: a refusal
// is the request's fault, and not the storage's.
func TestNamesInFields(t *testing.T) {
	m := newMount(t)
	m.write("roles/decent", nil)
	for _, path := range m.b.Paths {
		at := pathWith(path, "", "")
		if path.Operations[logical.UpdateOperation] == nil {
			continue
		}
		for _, field := range fieldNames(path) {
			data := d(field, "a..b")
			if strings.HasPrefix(at, "secrets/") {
				data = d("type", "database", "connection", "a..b", "usernames", "u", field, "a..b")
			}
			if resp, err := m.try(logical.UpdateOperation, at, data); errors.Is(err, logical.ErrRelativePath) || err != nil && statusOf(err) == http.StatusInternalServerError {
				t.Errorf("%s %s: %v, %v", at, field, resp, err)
			}
		}
	}
	m.refused(logical.UpdateOperation, "secrets/decent/db", d("type", "database", "connection", "a..b", "usernames", "u"), "connection")
	m.refused(logical.UpdateOperation, "roles/decent", d("destinations", "a..b"), "destinations", `"a..b"`)
}

// pathWith is a path with the name in its place, and decent ones in the others.
func pathWith(path *framework.Path, name, value string) string {
	pattern := strings.TrimSuffix(strings.Trim(path.Pattern, "^$"), "/?")
	pattern = regexp.MustCompile(`\((/\(\?P<.*\))\)\?$`).ReplaceAllString(pattern, "$1")
	for field := range path.Fields {
		filled := "decent"
		if field == name {
			filled = value
		}
		pattern = strings.ReplaceAll(pattern, framework.GenericNameRegex(field), filled)
	}
	return strings.ReplaceAll(pattern, `\.`, ".")
}
