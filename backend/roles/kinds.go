package roles

import (
	"errors"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// What the keys of roles and connections begin with; then comes the name.
const (
	Prefix           = "role/"
	ConnectionPrefix = "connection/"
)

// ErrDamaged says that what is stored cannot be used, and will not be by itself.
var ErrDamaged = errors.New("the stored entry cannot be used")

// IsConnection reports whether r is a connection, whose one secret is its administrator.
func IsConnection(r *rotation.Role) bool { return strings.HasPrefix(r.Key, ConnectionPrefix) }

// Subject is "role" or "connection": the field that names r in answers and metrics.
func Subject(r *rotation.Role) string {
	if IsConnection(r) {
		return "connection"
	}
	return "role"
}
