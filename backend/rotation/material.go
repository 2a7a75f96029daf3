package rotation

import (
	"fmt"
	"io"
	"maps"
)

// Redacted is what every secret prints as.
const Redacted = "[redacted]"

// Material is the content of one value: field names to clear text, for example
// "username" and "password". It is immutable once made. It prints as Redacted
// through every verb of fmt, so that a stray %v leaks nothing; encoding/json
// writes it in clear, because storage is where it belongs. What fmt shows without
// asking it: the unexported fields of a struct, and what is passed to %w without
// being an error. So a struct with a Material in an unexported field prints
// itself, as Run does; go vet refuses the other.
type Material map[string]string

// String implements fmt.Stringer without showing anything.
func (Material) String() string { return Redacted }

// GoString implements fmt.GoStringer without showing anything.
func (Material) GoString() string { return Redacted }

// Format implements fmt.Formatter without showing anything, whatever the verb.
func (Material) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// Format implements fmt.Formatter without showing anything. Without it, a verb
// that does not fit a pointer makes fmt show what it points to, in clear.
func (Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// Format implements fmt.Formatter: a role prints as its key, whatever the verb.
func (r *Role) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.Key) }

// Format implements fmt.Formatter: a run prints as its kind, whatever the verb.
func (run *Run) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, string(run.op.Kind)) }

// Equal reports whether both hold the same fields with the same content.
func (m Material) Equal(other Material) bool { return maps.Equal(m, other) }

// Content returns one field, or an error when it is missing, which means that the value
// was made by another type or that storage is damaged.
func (m Material) Content(field string) (string, error) {
	if m[field] == "" {
		return "", fmt.Errorf("value has no %s", field)
	}
	return m[field], nil
}
