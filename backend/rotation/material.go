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
// writes it in clear, because storage is where it belongs.
type Material map[string]string

// String implements fmt.Stringer without showing anything.
func (Material) String() string { return Redacted }

// GoString implements fmt.GoStringer without showing anything.
func (Material) GoString() string { return Redacted }

// Format implements fmt.Formatter without showing anything, whatever the verb.
func (Material) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// Equal reports whether both hold the same fields with the same content.
func (m Material) Equal(other Material) bool { return maps.Equal(m, other) }
