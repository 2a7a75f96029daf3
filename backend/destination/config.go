package destination

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-secure-stdlib/strutil"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/placeholder"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// What to do about a target that holds something else than it was given.
const (
	// Repair publishes again, where the target's is this engine's own.
	Repair = "repair"
	// Report only tells.
	Report = "report"
)

// Config describes a destination.
type Config struct {
	Type string `json:"type"`
	// Target has the settings of the type.
	Target Target `json:"target"`
	// AllowedRoles are the roles that may name the destination, with * for any text; nil
	// in one that was stored before there was a choice, which the roles that name it go
	// on to, and no others may.
	AllowedRoles []string `json:"allowed_roles"`
	// Values say what is published under which name, each like
	// {{role}}/database-password={{db_password}}.
	Values []string `json:"values"`
	// Required says that a rotation that can't be published is rolled back.
	Required bool `json:"required,omitempty"`
	// Timeout bounds one attempt to publish.
	Timeout time.Duration `json:"timeout"`
	// Deadline is how long after a rotation attempts go on, before it counts as
	// failed.
	Deadline time.Duration `json:"deadline"`
	// OnDrift is Repair or Report.
	OnDrift string `json:"on_drift"`
	// Adopt allows to overwrite what is not this engine's own.
	Adopt bool `json:"adopt,omitempty"`
	// Checked says that the rule for where values may go was asked when this was
	// written; earlier versions had none.
	Checked bool `json:"checked,omitempty"`
	// Salt keeps the ids of copies from telling anything of the values.
	Salt []byte `json:"salt"`
}

// New is a destination of which only the target's settings and Values are missing;
// nil if there is no such type.
func New(typeName string) *Config {
	target := targets[typeName]
	if target == nil {
		return nil
	}
	salt := make([]byte, sha256.Size)
	_, _ = rand.Read(salt) // never fails
	return &Config{
		Type: typeName, Target: target(), AllowedRoles: []string{}, Timeout: 10 * time.Second, Deadline: 5 * time.Minute, OnDrift: Repair, Salt: salt,
	}
}

// Decode reads a stored destination.
func Decode(raw []byte) (*Config, error) {
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, fmt.Errorf("decode destination: %w", err)
	}
	c := New(kind.Type)
	if c == nil {
		return nil, fmt.Errorf("decode destination: its type %q is not known to this version", kind.Type)
	}
	c.AllowedRoles = nil
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("decode destination: %w", err)
	}
	return c, nil
}

// Clone copies a destination.
func (c *Config) Clone() *Config {
	raw, err := json.Marshal(c)
	if err != nil {
		return nil // which strings and numbers never are
	}
	cloned, _ := Decode(raw)
	return cloned
}

// AllowsRole reports whether the role may name the destination.
func (c *Config) AllowsRole(role string) bool {
	return strutil.StrListContainsGlob(c.AllowedRoles, role)
}

// The bounds of a destination.
const (
	minTimeout  = time.Second
	maxTimeout  = 25 * time.Second
	maxDeadline = 24 * time.Hour
	maxValues   = 50
)

// Validate returns an error that wraps rotation.ErrInvalid for what cannot be.
func (c *Config) Validate() error {
	switch {
	case len(c.Values) == 0:
		return rotation.Invalid("values", "are missing: say what is published under which name, each like '{{role}}/database-password={{db_password}}'")
	case len(c.Values) > maxValues:
		return rotation.Invalid("values", "are %d; the limit is %d: use another destination", len(c.Values), maxValues)
	case c.Timeout < minTimeout || c.Timeout > maxTimeout:
		return rotation.Invalid("timeout", "is %s; it must be from %s to %s", rotation.Span(c.Timeout), rotation.Span(minTimeout), rotation.Span(maxTimeout))
	case c.Deadline < c.Timeout || c.Deadline > maxDeadline:
		return rotation.Invalid("deadline", "is %s; it must be from the timeout, %s, to %s", rotation.Span(c.Deadline), rotation.Span(c.Timeout), rotation.Span(maxDeadline))
	case c.OnDrift != Repair && c.OnDrift != Report:
		return rotation.Invalid("on_drift", "is %q; it must be %s or %s", c.OnDrift, Repair, Report)
	}
	for _, value := range c.Values {
		name, text, ok := strings.Cut(value, "=")
		if !ok || !strings.Contains(text, "{{") {
			return rotation.Invalid("values", "each must be a name and a placeholder, like '{{role}}/database-password={{db_password}}'")
		}
		if err := placeholder.Check(name, []string{"role"}); err != nil {
			return rotation.Invalid("values", "a name may contain {{role}}, and no value, because names are logged")
		}
		if !isName(filled(name, "x")) {
			return rotation.Invalid("values", "%q is no name: letters, digits and _ + . @ - in parts separated by /", name)
		}
	}
	return c.Target.Validate()
}

func filled(name, role string) string {
	return placeholder.Fill(strings.TrimSpace(name), map[string]string{"role": role})
}

// nameForm is what every type of target takes as the name of something.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9_+.@-]+(/[A-Za-z0-9_+.@-]+)*$`)

func isName(name string) bool {
	onlyDots := func(part string) bool { return strings.Trim(part, ".") == "" }
	return nameForm.MatchString(name) && len(name) <= 256 && !slices.ContainsFunc(strings.Split(name, "/"), onlyDots)
}

// CheckPlaceholders refuses values that a role does not have.
func (c *Config) CheckPlaceholders(names []string) error {
	for _, value := range c.Values {
		_, text, _ := strings.Cut(value, "=")
		if err := placeholder.Check(text, names); err != nil {
			return rotation.Invalid("values", "%v", err)
		}
	}
	return nil
}

// Copy is what the target is to hold for a role with these values.
func (c *Config) Copy(owner, role string, stamp Stamp, values map[string]string) (Copy, error) {
	if err := c.CheckPlaceholders(slices.Sorted(maps.Keys(values))); err != nil {
		return Copy{}, err
	}
	return c.copied(owner, role, stamp, values)
}

// Names is the same without values, for what needs only the names.
func (c *Config) Names(owner, role string) (Copy, error) {
	return c.copied(owner, role, Stamp{}, nil)
}

func (c *Config) copied(owner, role string, stamp Stamp, values map[string]string) (Copy, error) {
	made := Copy{Owner: owner, Role: role, Stamp: stamp, Adopt: c.Adopt}
	for _, value := range c.Values {
		name, text, _ := strings.Cut(value, "=")
		item := Item{Name: filled(name, role), Value: placeholder.Fill(strings.TrimSpace(text), values)}
		item.ID = c.digest(owner, stamp.String(), item.Name, item.Value)
		made.Items = append(made.Items, item)
	}
	slices.SortFunc(made.Items, func(a, b Item) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(made.Items); i++ {
		if made.Items[i].Name == made.Items[i-1].Name {
			return Copy{}, rotation.Invalid("values", "%q is named twice for role %s", made.Items[i].Name, role)
		}
	}
	made.ID = c.digest(owner, stamp.String(), made.Items)
	return made, nil
}

// digest is an HMAC of what makes a copy, or a part of one, what it is.
func (c *Config) digest(parts ...any) string {
	mac := hmac.New(sha256.New, c.Salt)
	raw, _ := json.Marshal(parts) // cannot fail
	mac.Write(raw)
	return hex.EncodeToString(mac.Sum(nil))[:32]
}
