// Package connections holds what connections are: how PostgreSQL servers are reached, for
// which roles and users, and which secret manages a user of which server.
package connections

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// A connection is stored like a role: its one secret is the password of the
// administrator, and rotating that is the same transaction as any other.
const (
	// Type is the type of the secret, Admin its name.
	Type  = "connection"
	Admin = "admin"
)

// Ports are what connections need of the mount.
type Ports struct {
	Roles    *roles.Registry
	Store    Store
	Postgres *postgres.Client
	// Admin is the driver of administrators.
	Admin rotation.Driver
	// Mount is the path of the mount, empty while it is not known.
	Mount func() string
	// Moved is told of a connection that leads elsewhere now.
	Moved func(connection string)
}

// Store keeps the id of the mount.
type Store interface {
	Read(ctx context.Context, key string, into any) (found bool, err error)
	Write(ctx context.Context, key string, value any) error
}

// Set is the connections of a mount, and the users of their servers.
type Set struct {
	ports Ports
	// Managed are the users that secrets manage.
	Managed  *ManagedUsers
	identity identity
	// mu is held by who finds out whom a user belongs to and acts on it, which may take as
	// long as storage does.
	mu sync.Mutex
	// reserved are the users of secrets that are being created. Who holds mu replaces it as
	// a whole; rotations read it, and wait for nobody.
	reserved atomic.Pointer[map[account]managedUser]
}

// New returns the connections that the registry of roles has.
func New(ports Ports) *Set {
	c := &Set{ports: ports, Managed: newManagedUsers()}
	c.reserved.Store(&map[account]managedUser{})
	return c
}

// Find returns an existing connection.
func (c *Set) Find(ctx context.Context, name string) (*rotation.Role, error) {
	r, err := c.ports.Roles.Get(ctx, roles.ConnectionPrefix, name)
	if err != nil {
		return nil, err
	}
	if r == nil || r.Snapshot().Deleted {
		return nil, rotation.Invalid("connection", "unknown connection: %q; there is: %s", name, c.ports.Roles.Existing(ctx, roles.ConnectionPrefix))
	}
	return r, nil
}

// Connection tells how to reach a server: the stored configuration, and the logins of
// the administrator that may work now.
func (c *Set) Connection(ctx context.Context, name string) (postgres.Connection, error) {
	admin, settings, err := c.admin(ctx, name)
	if err != nil {
		return postgres.Connection{}, err
	}
	logins := []postgres.Login{postgres.LoginOf(admin.Current)}
	if v := admin.Undecided(); v != nil {
		logins = append(logins, postgres.LoginOf(v))
	}
	return postgres.Connection{Settings: settings, Logins: logins}, nil
}

// admin returns the administrator of a connection, and its settings.
func (c *Set) admin(ctx context.Context, name string) (*rotation.Secret, postgres.Settings, error) {
	r, err := c.Find(ctx, name)
	if err != nil {
		return nil, postgres.Settings{}, err
	}
	admin := r.Snapshot().Secrets[Admin]
	if admin == nil || admin.Current == nil {
		return nil, postgres.Settings{}, errors.New("connection " + name + " has no administrator")
	}
	settings, err := postgres.SettingsOf(admin)
	return admin, settings, err
}

// Server returns the address of a connection and the name of its administrator.
func (c *Set) Server(ctx context.Context, name string) (postgres.Endpoint, string, error) {
	admin, settings, err := c.admin(ctx, name)
	if err != nil {
		return postgres.Endpoint{}, "", err
	}
	endpoint, err := settings.Endpoint()
	return endpoint, postgres.LoginOf(admin.Current).Username, err
}

// Needed names the connections that the secrets of a role use.
func Needed(r *rotation.Role) (names []string) {
	for _, s := range r.Snapshot().Secrets {
		if name := Of(s); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// Of names the connection of a secret; "" if it has none, or none that can be read, which
// whoever uses the secret reports.
func Of(s *rotation.Secret) string {
	if s.Type != database.TypeName {
		return ""
	}
	config, err := database.ConfigOf(s)
	if err != nil {
		return ""
	}
	return config.Connection
}

// dependent is a database secret that uses a connection.
type dependent struct {
	role   *rotation.Role
	secret *rotation.Secret
	config database.Config
}

func (u dependent) String() string { return u.role.Name + "/" + u.secret.Name }

// dependents lists the secrets that use a connection. Whether those of damaged roles do is
// not known, which damaged tells.
func (c *Set) dependents(ctx context.Context, connection string) (users []dependent, damaged, err error) {
	all, damaged, err := c.ports.Roles.Readable(ctx, roles.Prefix)
	if err != nil {
		return nil, nil, err
	}
	for _, role := range all {
		s := role.Snapshot()
		for _, name := range s.Names() {
			if s.Secrets[name].Type != database.TypeName {
				continue
			}
			config, err := database.ConfigOf(s.Secrets[name])
			if err != nil {
				damaged = errors.Join(damaged, fmt.Errorf("read %s: %w: %w", role.Key, roles.ErrDamaged, err))
				continue
			}
			if config.Connection == connection {
				users = append(users, dependent{role, s.Secrets[name], config})
			}
		}
	}
	return users, damaged, nil
}

// named are the users as a person is told them.
func named(users []dependent) []string {
	names := make([]string, 0, len(users))
	for _, user := range users {
		names = append(names, user.String())
	}
	return names
}

// unchanged says of what went wrong before anything was done that nothing was changed.
func unchanged(err error) error {
	return fmt.Errorf("%w: %w (nothing was changed)", rotation.ErrInvalid, err)
}
