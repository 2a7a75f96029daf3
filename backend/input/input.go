// Package input checks what operators give, and says what is wrong with it by the name of
// the field. It quotes no text that could be secret.
package input

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Decode reads a stored configuration and refuses fields it does not know,
// because a misspelt one that is ignored would be a setting that is not in force.
func Decode[T any](config json.RawMessage) (T, error) {
	var c T
	if len(bytes.TrimSpace(config)) == 0 {
		return c, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(config))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return c, rotation.Invalid("configuration", "%v", err)
	}
	if decoder.More() {
		return c, rotation.Invalid("configuration", "has text after its end: give one JSON object")
	}
	return c, nil
}

// CheckText refuses what neither a storage entry nor a target can hold: empty or
// oversized text, bytes that are not UTF-8, NUL. The text is never quoted.
func CheckText(field, text string, maxBytes int) error {
	switch {
	case text == "":
		return rotation.Invalid(field, "is empty")
	case len(text) > maxBytes:
		return rotation.Invalid(field, "has %d bytes; the limit is %d", len(text), maxBytes)
	case !utf8.ValidString(text):
		return rotation.Invalid(field, "is not UTF-8")
	case strings.ContainsRune(text, 0):
		return rotation.Invalid(field, "contains a NUL byte")
	}
	return nil
}

// CheckPrintable is CheckText for text that people type and programs pass on as
// one line: it also refuses control characters.
func CheckPrintable(field, text string, maxBytes int) error {
	if err := CheckText(field, text, maxBytes); err != nil {
		return err
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return rotation.Invalid(field, "contains a control character, such as a newline at its end")
	}
	return nil
}
