package connections

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// account is a user of a server. Users belong to a server, not to a database, and two
// owners would overwrite each other's passwords, so nobody else may manage an account that
// is managed or reserved. A server may have more addresses than are known here: see
// checkOtherAddresses.
type account struct {
	address  postgres.Address
	username string
}

// Reserve reserves the users of a new database secret, until release is called. By then
// the secret is part of a role's state, or was not created.
func (c *Set) Reserve(ctx context.Context, role, name string, config database.Config) (release func(), err error) {
	endpoint, admin, err := c.Server(ctx, config.Connection)
	if err != nil {
		return nil, err
	}
	if slices.Contains(config.Usernames, admin) {
		return nil, rotation.Invalid("usernames", "%q is the administrator of connection %s; rotate it with rotate-root/%s, and name a user of the application here", admin, config.Connection, config.Connection)
	}
	if err := c.reserveAll(ctx, role, name, config, endpoint); err != nil {
		return nil, err
	}
	if err := c.checkOtherAddresses(ctx, role, name, config, endpoint, c.ports.Postgres); err != nil {
		c.release(endpoint, config.Usernames)
		return nil, err
	}
	return func() { c.release(endpoint, config.Usernames) }, nil
}

// reserveAll reserves the users of a secret at the address of its connection.
func (c *Set) reserveAll(ctx context.Context, role, name string, config database.Config, endpoint postgres.Endpoint) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.checkAllowed(ctx, role, config); err != nil {
		return err
	}
	owner := managedUser{role: role, secret: name}.manager()
	for _, username := range config.Usernames {
		other, err := c.owner(ctx, endpoint, username)
		if err != nil {
			return err
		}
		if other != "" && other != owner {
			return rotation.Invalid("usernames", "%q at %s is managed by %s already", username, endpoint, other)
		}
	}
	next := maps.Clone(*c.reserved.Load())
	for _, username := range config.Usernames {
		for _, address := range endpoint.Addresses {
			next[account{address, username}] = managedUser{username, config.Connection, name, role}
		}
	}
	c.reserved.Store(&next)
	return nil
}

func (c *Set) release(endpoint postgres.Endpoint, usernames []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := maps.Clone(*c.reserved.Load())
	for _, username := range usernames {
		for _, address := range endpoint.Addresses {
			delete(next, account{address, username})
		}
	}
	c.reserved.Store(&next)
}

// reservedAt lists who is creating a secret at a server. The caller holds mu.
func (c *Set) reservedAt(e postgres.Endpoint) []string {
	var owners []string
	for account, user := range *c.reserved.Load() {
		if slices.Contains(e.Addresses, account.address) && !slices.Contains(owners, user.manager()) {
			owners = append(owners, user.manager())
		}
	}
	return owners
}

// owner says who owns a user of a server, administrators included; nobody is "".
// The caller holds mu.
func (c *Set) owner(ctx context.Context, e postgres.Endpoint, username string) (string, error) {
	connections, err := c.ports.Roles.All(ctx, roles.ConnectionPrefix)
	if err != nil {
		return "", fmt.Errorf("find out who the administrators are: %w", err)
	}
	for _, r := range connections {
		if endpoint, admin, err := c.Server(ctx, r.Name); err == nil && admin == username && endpoint.Meets(e) {
			return administratorOf(r.Name), nil
		}
	}
	return c.manager(ctx, e, username)
}

// manager says which secret manages a user of a server, or is about to. What is damaged
// might manage any user: if nobody else does, that is an error of roles.ErrDamaged.
func (c *Set) manager(ctx context.Context, e postgres.Endpoint, username string) (string, error) {
	var damaged error
	if !c.ports.Roles.Complete() {
		var err error
		if _, damaged, err = c.ports.Roles.Readable(ctx, roles.Prefix); err != nil {
			return "", fmt.Errorf("find out which users are managed: %w", err)
		}
	}
	managed, unread := c.Managed.named(username)
	damaged = errors.Join(damaged, unread)
	for _, user := range managed {
		endpoint, _, err := c.Server(ctx, user.connection)
		switch {
		case errors.Is(err, roles.ErrDamaged):
			damaged = errors.Join(damaged, err)
		case err != nil:
			return "", err
		case endpoint.Meets(e):
			return user.manager(), nil
		}
	}
	for _, address := range e.Addresses {
		if user, reserved := (*c.reserved.Load())[account{address, username}]; reserved {
			return user.manager(), nil
		}
	}
	if damaged != nil {
		return "", fmt.Errorf("find out which users are managed: %w", damaged)
	}
	return "", nil
}

// CheckAdmin refuses an administrator that a role manages: rotating one
// of the two would lock out the other. A damaged role does not keep connections from
// being written, which may be what it takes to mend things.
func (c *Set) CheckAdmin(ctx context.Context, admin rotation.Secret) error {
	config, err := postgres.SettingsOf(&admin)
	if err != nil {
		return err
	}
	endpoint, err := config.Endpoint()
	if err != nil {
		return err
	}
	v := admin.Pending
	if v == nil {
		v = admin.Current
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	username := postgres.LoginOf(v).Username
	by, err := c.manager(ctx, endpoint, username)
	if err != nil && !errors.Is(err, roles.ErrDamaged) {
		return err
	}
	if by != "" {
		return rotation.Invalid("username", "%q at %s is managed by %s; the engine needs a user of its own", username, endpoint, by)
	}
	return nil
}
