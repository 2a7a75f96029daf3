package smvmcreds

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Redacted is what credentials print as.
const Redacted = "[redacted]"

// Credentials are the values of a role at one version. They do not change, and
// print as Redacted.
type Credentials struct {
	// Version is the role's; every committed change makes it larger.
	Version int
	// LastRotation is when that version was committed, in whole seconds; zero if
	// the reader does not know.
	LastRotation time.Time
	// TTL is how long to wait before reading again; 0 means until asked to.
	TTL time.Duration

	values map[string]string
}

// NewCredentials makes credentials of fields as smvm/creds/<role> answers them,
// such as db_username. The map must not be changed afterwards.
func NewCredentials(version int, values map[string]string) *Credentials {
	return &Credentials{Version: version, values: values}
}

// Value returns the field of a secret, such as "password" of "db"; empty if
// there is none.
func (c *Credentials) Value(secret, field string) string { return c.values[secret+"_"+field] }

// Format implements fmt.Formatter without showing anything, whatever the verb.
func (*Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// offersPrevious reports whether a value from before the last rotation is still
// accepted. That ends without a new version.
func (c *Credentials) offersPrevious() bool {
	for name := range c.values {
		if strings.Contains(name, "_previous_") {
			return true
		}
	}
	return false
}
