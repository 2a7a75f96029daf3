package notify

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Ports are what alerts need from the rest of the engine.
type Ports struct {
	// Roles returns the roles and connections that are loaded.
	Roles func() []*rotation.Role
	// Store keeps the alerts and their cursors.
	Store Store
	Now   func() time.Time
	Log   func() hclog.Logger
	// Mount is the path of the engine, empty as long as that is not known.
	Mount func() string
	// Environment is the mount's label, for events without one of their own.
	Environment func() string
	// Rule says where alerts may be sent.
	Rule func(context.Context) (outbound.Rule, error)
	// Refused returns the secrets of a role whose targets refuse what is stored, with
	// the versions of their current values, and RefusedAdvice what to do about them.
	Refused       func(*rotation.Role) map[string]int
	RefusedAdvice func(*rotation.Role) string
	// Accepted reports whether a target is known to accept again what it refused of a
	// secret. If that is not known, the role is enqueued once it is.
	Accepted func(r *rotation.Role, secret string, version int) bool
	// UnresolvedAdvice says what to do about the unresolved secrets of a role.
	UnresolvedAdvice func(*rotation.Role, *rotation.Snapshot) string
	// RetiredUses returns the noted uses of a role's retired values after that number, in
	// order.
	RetiredUses func(ctx context.Context, r *rotation.Role, after int) ([]RetiredUse, error)
	// InSync reports whether a destination is known to hold what a role has.
	InSync func(ctx context.Context, destination string, r *rotation.Role) bool
	// Failpoint calls do; by that name, a test may stop it or make it fail.
	Failpoint func(ctx context.Context, name string, do func() error) error
}

// Store is a key-value storage of JSON.
type Store interface {
	// Read decodes what is under a key, and reports whether there is anything.
	Read(ctx context.Context, key string, into any) (found bool, err error)
	Write(ctx context.Context, key string, value any) error
	// List returns the names under a prefix.
	List(ctx context.Context, prefix string) ([]string, error)
	Delete(ctx context.Context, key string) error
}
