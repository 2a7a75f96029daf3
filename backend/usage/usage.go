// Package usage knows who uses what: how often the values of each stage are used
// through this engine, which sessions previous logins still have, and so whether it
// would disturb anybody to end an overlap now. It keeps that in memory only.
package usage

import (
	"context"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Ports is what the package needs of others.
type Ports struct {
	// Roles holds the roles and connections in memory.
	Roles interface{ Loaded() []*rotation.Role }
	// Types are the types of secrets, by name.
	Types map[string]secret.Type
	// Counts reports whether the values of that type are used through this engine.
	Counts func(typeName string) bool
	// Connection names the connection whose server a secret is a login of; "" if it is
	// no login.
	Connection func(*rotation.Secret) string
	// Sessions returns the open sessions of users on the server of a connection.
	Sessions func(ctx context.Context, connection string, usernames []string) (map[string]postgres.Sessions, error)
	// Now returns the time.
	Now func() time.Time
}

// Usage counts uses, and monitors sessions.
type Usage struct {
	ports Ports
	counter
	monitor
}

// New returns a Usage that knows nothing yet.
func New(p Ports) *Usage {
	return &Usage{
		ports:   p,
		counter: counter{now: p.Now, counts: p.Counts},
		monitor: monitor{ports: p, signal: make(chan struct{}, 1), asking: map[string]bool{}, seen: map[previousLogin]Sessions{}},
	}
}
