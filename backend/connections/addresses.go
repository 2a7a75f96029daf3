package connections

import (
	"context"
	"errors"
	"fmt"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// namesake is a user of the same name as one of a new secret, at another address.
type namesake struct{ username, connection, owner string }

// administratorOf says in words who manages the administrator of a connection.
func administratorOf(connection string) string {
	return fmt.Sprintf("connection %s, as its administrator,", connection)
}

// errNotTold says that a server does not answer whether it is the same as another.
var errNotTold = errors.New("the engine cannot tell whether that is at the same server")

// checkOtherAddresses refuses users that have an owner at another address of the same
// server. Nothing but the servers can tell whether two addresses are of one, so they
// are asked, and only where names are the same. The caller has reserved the users, so
// that of two secrets that are created at a time, at least one finds the other. The server
// is reached by way of at.
func (c *Set) checkOtherAddresses(ctx context.Context, role, name string, config database.Config, endpoint postgres.Endpoint, at *postgres.Client) error {
	found, err := c.namesakes(ctx, role, name, config, endpoint)
	if err != nil || len(found) == 0 {
		return err
	}
	here, err := at.Started(ctx, config.Connection)
	if err != nil {
		return unchanged(err)
	}
	for _, other := range found {
		there, err := c.ports.Postgres.Started(ctx, other.connection)
		switch {
		case err != nil:
			return fmt.Errorf("%w: usernames: %q is managed by %s too, and %w: %w; create the secret when both servers answer, or name another user", rotation.ErrInvalid, other.username, other.owner, errNotTold, err)
		case here.Equal(there):
			return rotation.Invalid("usernames", "%q is managed by %s already: connection %s reaches the same server by another address", other.username, other.owner, other.connection)
		}
	}
	return nil
}

// namesakes lists the owners of users with the names of those of a new secret, at
// other addresses than its own.
func (c *Set) namesakes(ctx context.Context, role, name string, config database.Config, endpoint postgres.Endpoint) ([]namesake, error) {
	connections, err := c.ports.Roles.All(ctx, roles.ConnectionPrefix)
	if err != nil {
		return nil, fmt.Errorf("find out who the administrators are: %w", err)
	}
	own := managedUser{role: role, secret: name}.manager()
	var found []namesake
	add := func(username, connection, owner string) {
		if e, _, err := c.Server(ctx, connection); err == nil && owner != own && e.String() != endpoint.String() {
			found = append(found, namesake{username, connection, owner})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, username := range config.Usernames {
		for _, r := range connections {
			if _, admin, err := c.Server(ctx, r.Name); err == nil && admin == username {
				add(username, r.Name, administratorOf(r.Name))
			}
		}
		managed, err := c.Managed.named(username)
		if err != nil {
			return nil, err
		}
		for _, user := range *c.reserved.Load() {
			if user.name == username {
				managed = append(managed, user)
			}
		}
		for _, user := range managed {
			add(username, user.connection, user.manager())
		}
	}
	return found, nil
}

// by reaches the server of a connection that is about to be stored.
func (c *Set) by(d *draft) *postgres.Client {
	return postgres.New(func(string) (postgres.Connection, error) {
		return postgres.Connection{Settings: d.settings, Logins: []postgres.Login{postgres.LoginOf(d.value())}}, nil
	}, c.OwnerOf)
}

// checkMoved refuses a connection that is changed to lead to another address, where the
// users of its secrets have another owner, or to a standby. A server that does not answer can't tell, and
// must not keep anybody from leaving it: whether that is stored is for verify_connection
// to say, and rotations ask for other mounts again.
func (c *Set) checkMoved(ctx context.Context, r *rotation.Role, d *draft) error {
	users, _, err := c.dependents(ctx, r.Name) // what is damaged keeps no connection from being written
	if err != nil || len(users) == 0 {
		return err
	}
	to, err := d.settings.Endpoint()
	if err != nil {
		return err
	}
	if from, _, err := c.Server(ctx, r.Name); err != nil || from.String() == to.String() {
		return err
	}
	at := c.by(d)
	defer at.Close()
	if _, err := at.Started(ctx, r.Name); err != nil {
		return nil //nolint:nilerr // it does not answer
	}
	if err := c.ports.Admin.Test(ctx, d.admin, d.value().Material); errors.Is(err, postgres.ErrStandby) {
		return d.standsBy(err)
	}
	for _, user := range users {
		if err := c.checkMovedUser(ctx, user, to, at); err != nil {
			return err
		}
	}
	return nil
}

// checkMovedUser refuses one secret whose users have another owner at the server that at
// reaches.
func (c *Set) checkMovedUser(ctx context.Context, user dependent, to postgres.Endpoint, at *postgres.Client) error {
	own := managedUser{role: user.role.Name, secret: user.secret.Name}.manager()
	for _, username := range user.config.Usernames {
		c.mu.Lock()
		other, err := c.owner(ctx, to, username)
		c.mu.Unlock()
		if err != nil && !errors.Is(err, roles.ErrDamaged) {
			return err
		}
		if other != "" && other != own {
			return rotation.Invalid("host", "%q, of %s, is managed by %s at %s: nothing was stored", username, user, other, to)
		}
	}
	if err := c.checkOtherAddresses(ctx, user.role.Name, user.secret.Name, user.config, to, at); err != nil && !errors.Is(err, errNotTold) {
		return err
	}
	if _, err := at.Claim(ctx, user.config.Connection, user.config.Usernames, false); errors.Is(err, postgres.ErrOwned) {
		return rotation.Invalid("host", "%v (nothing was stored)", err)
	}
	return nil
}
