// Package usage knows who uses what: who has read which version of a role, how often the
// values of each stage are used through this engine, which sessions previous logins still
// have, and so whether it would disturb anybody to end an overlap now. It keeps that in
// memory; only the readers are stored as well, in the background.
package usage

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// Ports is what the package needs of others.
type Ports struct {
	// Roles holds the roles and connections in memory.
	Roles Roles
	// Loaded is closed when the roles have been loaded, as far as they can be.
	Loaded <-chan struct{}
	// Store keeps the readers.
	Store Store
	// Types are the types of secrets, by name.
	Types map[string]secret.Type
	// Counts reports whether the values of that type are used through this engine.
	Counts func(typeName string) bool
	// Connection names the connection whose server a secret is a login of; "" if it is
	// no login.
	Connection func(*rotation.Secret) string
	// Sessions returns the open sessions of users on the server of a connection.
	Sessions func(ctx context.Context, connection string, usernames []string) (map[string]postgres.Sessions, error)
	// EntityName asks Vault for the name of an entity; "" if there is none.
	EntityName func(id string) string
	// Visible makes a name safe to show.
	Visible func(string) string
	// Now returns the time.
	Now func() time.Time
	Log func() hclog.Logger
}

// Roles are the roles and connections in memory.
type Roles interface {
	// Loaded returns all of them.
	Loaded() []*rotation.Role
	// Known returns the one under a key, nil if there is none.
	Known(key string) *rotation.Role
}

// Usage counts uses, monitors sessions, and remembers readers.
type Usage struct {
	ports Ports
	counter
	monitor
	readers
}

// New returns a Usage that knows nothing yet.
func New(p Ports) *Usage {
	return &Usage{
		ports:   p,
		counter: counter{now: p.Now, counts: p.Counts},
		monitor: monitor{ports: p, signal: make(chan struct{}, 1), asking: map[string]bool{}, seen: map[previousLogin]Sessions{}},
		readers: readers{ports: p, news: make(chan struct{}, 1), due: make(chan struct{}, 1)},
	}
}

// Follow keeps up with a change of a role. It waits for nobody who does I/O.
func (u *Usage) Follow(r *rotation.Role) {
	u.counter.follow(r)
	u.readers.follow(r)
}

// Run asks servers and stores readers until ctx ends.
func (u *Usage) Run(ctx context.Context) {
	go u.readers.run(ctx)
	u.monitor.run(ctx)
}

// Tick has servers asked, and readers stored. It never blocks.
func (u *Usage) Tick() {
	wake(u.signal)
	wake(u.due)
}
