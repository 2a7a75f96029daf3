package backend

import (
	"context"
	"errors"
	"fmt"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// namesake is a user of the same name as one of a new secret, at another address.
type namesake struct{ username, connection, owner string }

// administratorOf says in words who manages the administrator of a connection.
func administratorOf(connection string) string {
	return fmt.Sprintf("connection %s, as its administrator,", connection)
}

// errNotTold says that a server does not answer whether it is the same as another.
var errNotTold = errors.New("whether that is at the same server cannot be told")

// checkOtherAddresses refuses users that have an owner at another address of the same
// server. Nothing but the servers can tell whether two addresses are of one, so they
// are asked, and only where names are the same. The caller has reserved the users, so
// that of two secrets that are created at a time, at least one finds the other. The server
// is reached by way of at.
func (b *backend) checkOtherAddresses(ctx context.Context, role, name string, config secret.DatabaseConfig, endpoint secret.Endpoint, at *secret.Postgres) error {
	found, err := b.namesakes(ctx, role, name, config, endpoint)
	if err != nil || len(found) == 0 {
		return err
	}
	here, err := at.Started(ctx, config.Connection)
	if err != nil {
		return preflightError(err)
	}
	for _, other := range found {
		there, err := b.postgres.Started(ctx, other.connection)
		switch {
		case err != nil:
			return fmt.Errorf("%w: usernames: %q is managed by %s too, and %w: %w; create the secret when both servers answer, or name another user", rotation.ErrInvalid, other.username, other.owner, errNotTold, err)
		case here.Equal(there):
			return invalid("usernames", "%q is managed by %s already: connection %s reaches the same server by another address", other.username, other.owner, other.connection)
		}
	}
	return nil
}

// namesakes lists the owners of users with the names of those of a new secret, at
// other addresses than its own.
func (b *backend) namesakes(ctx context.Context, role, name string, config secret.DatabaseConfig, endpoint secret.Endpoint) ([]namesake, error) {
	connections, err := b.registry.All(ctx, roles.ConnectionPrefix)
	if err != nil {
		return nil, fmt.Errorf("find out who the administrators are: %w", err)
	}
	own := managedUser{role: role, secret: name}.manager()
	var found []namesake
	add := func(username, connection, owner string) {
		if e, _, err := b.server(ctx, connection); err == nil && owner != own && e.String() != endpoint.String() {
			found = append(found, namesake{username, connection, owner})
		}
	}
	b.claims.mu.Lock()
	defer b.claims.mu.Unlock()
	for _, username := range config.Usernames {
		for _, c := range connections {
			if _, admin, err := b.server(ctx, c.Name); err == nil && admin == username {
				add(username, c.Name, administratorOf(c.Name))
			}
		}
		managed, err := b.managed.named(username)
		if err != nil {
			return nil, err
		}
		for _, user := range b.claims.reserved {
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
