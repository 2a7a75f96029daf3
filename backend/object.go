package backend

import (
	"cmp"
	"encoding/json"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// takeObject reads a field that takes a JSON object: as itself, as programs give
// it, or as its text, as the vault command does.
func takeObject(name string, value any) (map[string]any, error) {
	if text, ok := value.(string); ok {
		if err := checkString(name, text); err != nil {
			return nil, err
		}
		object, err := secret.DecodeClaims(name, text)
		if err != nil {
			return nil, err
		}
		value = object
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, rotation.Invalid(name, "is not a JSON object")
	}
	if text, err := json.Marshal(object); err != nil || len(text) > maxFieldLength {
		return nil, rotation.Invalid(name, "is longer than the limit of %d bytes", maxFieldLength)
	}
	return object, checkTexts(name, object)
}

// checkTexts is checkString for all texts in an object.
func checkTexts(name string, value any) error {
	switch v := value.(type) {
	case string:
		return checkString(name, v)
	case []any:
		for _, element := range v {
			if err := checkTexts(name, element); err != nil {
				return err
			}
		}
	case map[string]any:
		for key, element := range v {
			if err := cmp.Or(checkString(name, key), checkTexts(name, element)); err != nil {
				return err
			}
		}
	}
	return nil
}
