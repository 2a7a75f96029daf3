package secret

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// CurrentFields are the fields of the current values of a role, by the names that
// creds/:role has for them.
func CurrentFields(types map[string]Type, s *rotation.State) (map[string]string, error) {
	values := map[string]string{}
	for name, stored := range s.Secrets {
		if stored.Current == nil {
			continue
		}
		fields, err := types[stored.Type].Fields(*stored, stored.Current.Material)
		if err != nil {
			return nil, fmt.Errorf("read secret %s: %w", name, err)
		}
		for field, value := range fields {
			values[name+"_"+field] = value
		}
	}
	return values, nil
}

// shortestQuoted is below how many bytes a value is not looked for in texts: words would
// be taken for it, and who may not read it could guess it.
const shortestQuoted = 8

// Quoted returns the name of a secret of which a stored value is in the text, "" if there
// is none. A value that is not kept is not found.
func Quoted(types map[string]Type, s *rotation.State, text string) string {
	for _, name := range s.Names() {
		stored := s.Secrets[name]
		for _, v := range []*rotation.Value{stored.Current, stored.Previous, stored.Next, stored.Undecided()} {
			if v != nil && quotes(text, v.Material, hiddenFields(types[stored.Type])) {
				return name
			}
		}
	}
	return ""
}

// hiddenFields are the fields of a value that are secret: those that can be imported. An
// administrator of a connection, which is of no Type, has a password.
func hiddenFields(t Type) []string {
	if t == nil {
		return []string{"password"}
	}
	var names []string
	for _, field := range t.Schema().Imports {
		names = append(names, field.Name)
	}
	return names
}

func quotes(text string, v rotation.Material, fields []string) bool {
	return slices.ContainsFunc(fields, func(field string) bool {
		return len(v[field]) >= shortestQuoted && strings.Contains(text, v[field])
	})
}

// TestFields are CurrentFields, and for each key that signs tokens one of those.
func TestFields(types map[string]Type, s *rotation.Snapshot, now time.Time) (map[string]string, error) {
	values, err := CurrentFields(types, s.State)
	if err != nil {
		return nil, err
	}
	for name, stored := range s.Secrets {
		tokens, ok := types[stored.Type].(Tokens)
		if stored.Current == nil || !ok {
			continue
		}
		if values[name+"_token"], err = tokens.TestToken(s, stored, now); err != nil {
			return nil, fmt.Errorf("sign a token with secret %s: %w", name, err)
		}
	}
	return values, nil
}
