package backend

import (
	"regexp"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// nameRule is what framework.GenericNameRegex takes, but for relative paths, which
// Vault's storage refuses.
const nameRule = "has to be of letters (A to Z, a to z), digits, _, - and . alone, to begin and end with a letter, a digit or _, and to have no two dots in a row"

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
