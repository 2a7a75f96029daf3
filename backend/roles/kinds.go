package roles

import (
	"context"
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

// Existing lists what there is instead of a name that there is not.
func (g *Registry) Existing(ctx context.Context, prefix string) string {
	all, err := g.All(ctx, prefix)
	switch {
	case len(all) == 0 && err != nil:
		return "none that can be read"
	case len(all) == 0:
		return "none yet"
	}
	const most = 20
	var names []string
	for _, r := range all[:min(len(all), most)] {
		names = append(names, r.Name)
	}
	if len(all) > most {
		names = append(names, "…")
	}
	return strings.Join(names, ", ")
}

// Names are those of all roles or connections that there are.
func (g *Registry) Names(ctx context.Context, prefix string) ([]string, error) {
	all, _, err := g.Readable(ctx, prefix)
	names := make([]string, 0, len(all))
	for _, r := range all {
		names = append(names, r.Name)
	}
	return names, err
}

// Sample joins names, the first few when there are many.
func Sample(names []string) string {
	const most = 10
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
