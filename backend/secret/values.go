package secret

import (
	"fmt"
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
