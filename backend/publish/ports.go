package publish

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Ports are what destinations need from the rest of the engine.
type Ports struct {
	Roles Roles
	Store Store
	// Configuring is held while a destination, or a role that names it, is changed.
	Configuring sync.Locker
	Now         func() time.Time
	Log         func() hclog.Logger
	// Mount is the path of the engine, empty as long as that is not known, and MountID
	// marks what it publishes as its own.
	Mount, MountID func() string
	// Rule says where values may be published to.
	Rule func(context.Context) (outbound.Rule, error)
	// Values are what a role publishes: the fields of creds by name.
	Values func(*rotation.State) (map[string]string, error)
	// Fit refuses, in the name of the field that was written, destinations and checks
	// that together may take longer after a rotation than the overlap.
	Fit          func(field string, s *rotation.State, overlap time.Duration, deadlines map[string]time.Duration) error
	NewOperation func(rotation.Kind, rotation.Trigger) rotation.Operation
	// Failpoint calls do; by that name, a test may stop it or make it fail.
	Failpoint func(ctx context.Context, name string, do func() error) error
}

// Roles are those of the mount.
type Roles interface {
	// Loaded returns the roles that are in memory, and All those that are stored.
	Loaded() []*rotation.Role
	All(ctx context.Context, prefix string) ([]*rotation.Role, error)
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
