package secret

import (
	"encoding/json"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Tokens is a Type whose values sign tokens, which live for a time of their own. Their
// key has to verify them for as long.
type Tokens interface {
	Type
	// LongestLife is how long a token may live by a configuration, and the field that says
	// so.
	LongestLife(config json.RawMessage) (field string, longest time.Duration, err error)
	// TestToken is a token as an application would have it signed. It is valid for a
	// minute at most.
	TestToken(snapshot *rotation.Snapshot, s *rotation.Secret, now time.Time) (string, error)
	// KeyID is the id by which tokens name the key v.
	KeyID(v rotation.Material) string
	// NamedKey is the id of the key that a token names, unverified; empty if it names
	// none. It reports whether the text is a token at all.
	NamedKey(text string) (id string, isToken bool)
	// Signed reports whether the key v has signed a token, whatever its claims say.
	Signed(v rotation.Material, token string) bool
}

// CheckLife refuses a configuration whose tokens could outlive their key, which ends with
// the overlap.
func CheckLife(t Type, config json.RawMessage, overlap time.Duration) error {
	tokens, ok := t.(Tokens)
	if !ok {
		return nil
	}
	field, longest, err := tokens.LongestLife(config)
	if err == nil && longest > overlap {
		return rotation.Invalid(field, "is %s, longer than the overlap of the role, which is %s: a token would outlive its key", rotation.Span(longest), rotation.Span(overlap))
	}
	return err
}

// CheckOverlap refuses an overlap of a role that is shorter than its tokens may live.
func CheckOverlap(types map[string]Type, role string, s *rotation.State, overlap time.Duration) error {
	for _, name := range s.Names() {
		tokens, ok := types[s.Secrets[name].Type].(Tokens)
		if !ok {
			continue
		}
		field, longest, err := tokens.LongestLife(s.Secrets[name].Config)
		if err != nil {
			return err
		}
		if longest > overlap {
			return rotation.Invalid("overlap", "is %s, and tokens of secret %s live for up to %s, %s: they would outlive their key; lower %s of secrets/%s/%s first",
				rotation.Span(overlap), name, field, rotation.Span(longest), field, role, name)
		}
	}
	return nil
}
