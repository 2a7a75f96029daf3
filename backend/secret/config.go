package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// maxValue is the size in bytes above which no value is taken: Vault limits a
// storage entry to 1 MiB, and a role keeps three values of each secret in one.
const maxValue = 64 << 10

// invalid makes an error that tells the operator which field is wrong, how, and
// what to write instead. It wraps rotation.ErrInvalid.
func invalid(field, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", rotation.ErrInvalid, field, fmt.Sprintf(format, args...))
}

// decode reads a stored configuration and refuses fields it does not know,
// because a misspelt one that is ignored would be a setting that is not in force.
func decode[T any](config json.RawMessage) (T, error) {
	var c T
	if len(bytes.TrimSpace(config)) == 0 {
		return c, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(config))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return c, invalid("configuration", "%v", err)
	}
	if decoder.More() {
		return c, invalid("configuration", "has more after its end: give one JSON object")
	}
	return c, nil
}

// checkText refuses what neither a storage entry nor a target can hold: empty or
// oversized text, bytes that are not UTF-8, NUL. The text is never quoted.
func checkText(field, text string, maxBytes int) error {
	switch {
	case text == "":
		return invalid(field, "is empty")
	case len(text) > maxBytes:
		return invalid(field, "has %d bytes, at most %d are taken", len(text), maxBytes)
	case !utf8.ValidString(text):
		return invalid(field, "is not UTF-8")
	case strings.ContainsRune(text, 0):
		return invalid(field, "contains a NUL byte")
	}
	return nil
}

// checkPrintable is checkText for text that people type and programs pass on as
// one line: it also refuses control characters.
func checkPrintable(field, text string, maxBytes int) error {
	if err := checkText(field, text, maxBytes); err != nil {
		return err
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return invalid(field, "contains a control character, such as a newline at its end")
	}
	return nil
}

// content returns one field of a material, or an error when it is missing, which
// means that the value was made by another type or that storage is damaged.
func content(v rotation.Material, field string) (string, error) {
	if v[field] == "" {
		return "", fmt.Errorf("value has no %s", field)
	}
	return v[field], nil
}
