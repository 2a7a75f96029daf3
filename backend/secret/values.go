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

// shortestQuoted is below how many bytes a value is not looked for in texts.
const shortestQuoted = 16

// Quoted returns the name of a secret of which a stored value is a word of the text, "" if
// there is none. It looks only for what nobody can guess, because whoever may not read a
// value could try guesses: values that the engine has made, and that are not short. A value
// that is not kept is not found.
func Quoted(types map[string]Type, s *rotation.State, text string) string {
	for _, name := range s.Names() {
		stored := s.Secrets[name]
		for _, v := range []*rotation.Value{stored.Current, stored.Previous, stored.Next, stored.Undecided()} {
			if v != nil && !v.Supplied && quotes(text, v.Material, hiddenFields(types[stored.Type])) {
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
		return len(v[field]) >= shortestQuoted && slices.ContainsFunc(strings.Fields(text), func(word string) bool {
			return word == v[field] || strings.Trim(word, around) == v[field]
		})
	})
}

// around are the marks that people write around a value.
const around = "\"'`.,:;()[]<>"

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

// previousToken is what follows the name of a secret in the name of a token that was
// signed with its previous key.
const previousToken = "previous_token"

// RetiredNames are the names of what a check may send of the previous values of a role,
// each with the secret that it is of.
func RetiredNames(types map[string]Type, s *rotation.State) map[string]string {
	names := map[string]string{}
	for name, stored := range s.Secrets {
		if field := retiredField(types[stored.Type], stored); field != "" {
			names[name+"_"+field] = name
		}
	}
	return names
}

// retiredField is the name of what a check may send of the previous value of a secret, ""
// if there is nothing: a value that is not kept, or that no application verifies.
func retiredField(t Type, s *rotation.Secret) string {
	switch t := t.(type) {
	case Tokens:
		return previousToken
	case Presented:
		if !s.ShownOnce {
			return t.Presents()
		}
	}
	return ""
}

// RetiredFields are TestFields, and what a check may send of the previous values of the
// named secrets: the value, or a token that it has signed just now.
func RetiredFields(types map[string]Type, s *rotation.Snapshot, names []string, now time.Time) (map[string]string, error) {
	values, err := TestFields(types, s, now)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		stored := s.Secrets[name]
		if stored == nil || stored.Previous == nil {
			continue
		}
		t := types[stored.Type]
		switch field := retiredField(t, stored); field {
		case "":
		case previousToken:
			if values[name+"_"+field], err = signedBefore(t.(Tokens), s, *stored, now); err != nil {
				return nil, fmt.Errorf("sign a token with the previous key of secret %s: %w", name, err)
			}
		default:
			values[name+"_"+field] = t.PreviousFields(stored.Previous.Material)[field]
		}
	}
	return values, nil
}

// signedBefore is a token of now that the previous key of a secret has signed. It takes a
// snapshot of its own: what is kept with s was made of the current key.
func signedBefore(t Tokens, s *rotation.Snapshot, before rotation.Secret, now time.Time) (string, error) {
	before.Current, before.Previous, before.Next = before.Previous, nil, nil
	return t.TestToken(&rotation.Snapshot{State: s.State, Resolved: s.Resolved}, &before, now)
}
