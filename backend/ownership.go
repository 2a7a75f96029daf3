package backend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// claims keeps a database user from being managed twice: two owners would
// overwrite each other's passwords. Users belong to a server, not to a database,
// so a claim is an address of the server and the user's name. A server may have more
// addresses than are known here: see checkOtherAddresses.
type claims struct {
	mu sync.Mutex
	// reserved are the claims of secrets that are being created.
	reserved map[claim]managedUser
}

type claim struct {
	address  secret.Address
	username string
}

// reserve claims the users of a new database secret, until release is called. By then
// the secret is part of a role's state, or was not created.
func (b *backend) reserve(ctx context.Context, role, name string, config secret.DatabaseConfig) (release func(), err error) {
	endpoint, admin, err := b.server(ctx, config.Connection)
	if err != nil {
		return nil, err
	}
	if slices.Contains(config.Usernames, admin) {
		return nil, invalid("usernames", "%q is the administrator of connection %s; rotate it by rotate-root/%s, and manage a user of the application here", admin, config.Connection, config.Connection)
	}
	if err := b.claimAll(ctx, role, name, config, endpoint); err != nil {
		return nil, err
	}
	if err := b.checkOtherAddresses(ctx, role, name, config, endpoint, b.postgres); err != nil {
		b.release(endpoint, config.Usernames)
		return nil, err
	}
	return func() { b.release(endpoint, config.Usernames) }, nil
}

// claimAll reserves the users of a secret at the address of its connection.
func (b *backend) claimAll(ctx context.Context, role, name string, config secret.DatabaseConfig, endpoint secret.Endpoint) error {
	b.claims.mu.Lock()
	defer b.claims.mu.Unlock()
	if err := b.checkAllowed(role, config); err != nil {
		return err
	}
	owner := managedUser{role: role, secret: name}.manager()
	for _, username := range config.Usernames {
		other, err := b.owner(ctx, endpoint, username)
		if err != nil {
			return err
		}
		if other != "" && other != owner {
			return invalid("usernames", "%q at %s is managed by %s already", username, endpoint, other)
		}
	}
	for _, username := range config.Usernames {
		for _, address := range endpoint.Addresses {
			b.claims.reserved[claim{address, username}] = managedUser{username, config.Connection, name, role}
		}
	}
	return nil
}

func (b *backend) release(endpoint secret.Endpoint, usernames []string) {
	b.claims.mu.Lock()
	defer b.claims.mu.Unlock()
	for _, username := range usernames {
		for _, address := range endpoint.Addresses {
			delete(b.claims.reserved, claim{address, username})
		}
	}
}

// claimedAt lists who is creating a secret at a server. The caller holds the lock
// on claims.
func (b *backend) claimedAt(e secret.Endpoint) []string {
	var owners []string
	for claim, user := range b.claims.reserved {
		if slices.Contains(e.Addresses, claim.address) && !slices.Contains(owners, user.manager()) {
			owners = append(owners, user.manager())
		}
	}
	return owners
}

// owner says who owns a user of a server, administrators included; nobody is "".
// The caller holds the lock on claims.
func (b *backend) owner(ctx context.Context, e secret.Endpoint, username string) (string, error) {
	connections, err := b.registry.All(ctx, roles.ConnectionPrefix)
	if err != nil {
		return "", fmt.Errorf("find out who the administrators are: %w", err)
	}
	for _, c := range connections {
		if endpoint, admin, err := b.server(ctx, c.Name); err == nil && admin == username && endpoint.Meets(e) {
			return administratorOf(c.Name), nil
		}
	}
	return b.manager(ctx, e, username)
}

// manager says which secret manages a user of a server, or is about to. What is damaged
// might manage any user: if nobody else does, that is an error of roles.ErrDamaged.
func (b *backend) manager(ctx context.Context, e secret.Endpoint, username string) (string, error) {
	var damaged error
	if !b.registry.Complete() {
		var err error
		if _, damaged, err = b.registry.Readable(ctx, roles.Prefix); err != nil {
			return "", fmt.Errorf("find out which users are managed: %w", err)
		}
	}
	managed, unread := b.managed.named(username)
	damaged = errors.Join(damaged, unread)
	for _, user := range managed {
		endpoint, _, err := b.server(ctx, user.connection)
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
		if user, reserved := b.claims.reserved[claim{address, username}]; reserved {
			return user.manager(), nil
		}
	}
	if damaged != nil {
		return "", fmt.Errorf("find out which users are managed: %w", damaged)
	}
	return "", nil
}

// checkAdminUnmanaged refuses an administrator that a role manages: rotating one
// of the two would lock out the other. A damaged role does not keep connections from
// being written, which may be what it takes to mend things.
func (b *backend) checkAdminUnmanaged(ctx context.Context, admin rotation.Secret) error {
	config, err := connectionSettings(&admin)
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
	b.claims.mu.Lock()
	defer b.claims.mu.Unlock()
	username := login(v).Username
	by, err := b.manager(ctx, endpoint, username)
	if err != nil && !errors.Is(err, roles.ErrDamaged) {
		return err
	}
	if by != "" {
		return invalid("username", "%q at %s is managed by %s; the engine needs a user of its own", username, endpoint, by)
	}
	return nil
}

// managedUsers are the users of databases that secrets manage, by name, so that
// nobody has to go through all roles to find one.
type managedUsers struct {
	mu     sync.Mutex
	byName map[string][]managedUser
	byRole map[string][]managedUser // by the role's key
	unread map[string]error         // by the role's key: why its users are not known
	count  int                      // of all roles
}

// managedUser is a user, and the secret that manages it.
type managedUser struct{ name, connection, secret, role string }

// manager says it in words.
func (u managedUser) manager() string { return fmt.Sprintf("secret %s of role %s", u.secret, u.role) }

func newManagedUsers() *managedUsers {
	return &managedUsers{byName: map[string][]managedUser{}, byRole: map[string][]managedUser{}, unread: map[string]error{}}
}

// note takes down whose users a role manages now.
func (m *managedUsers) note(r *rotation.Role) {
	users, err := usersOf(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && m.unread[r.Key] == nil && slices.Equal(users, m.byRole[r.Key]) {
		return
	}
	m.forgetLocked(r.Key)
	if err != nil {
		m.unread[r.Key] = err
		return
	}
	m.byRole[r.Key] = users
	m.count += len(users)
	for _, user := range users {
		m.byName[user.name] = append(m.byName[user.name], user)
	}
}

// forget drops what is known of a role.
func (m *managedUsers) forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(key)
}

func (m *managedUsers) forgetLocked(key string) {
	for _, user := range m.byRole[key] {
		m.byName[user.name] = slices.DeleteFunc(m.byName[user.name], func(other managedUser) bool { return other == user })
		if len(m.byName[user.name]) == 0 {
			delete(m.byName, user.name)
		}
	}
	m.count -= len(m.byRole[key])
	delete(m.byRole, key)
	delete(m.unread, key)
}

// uses reports whether a role has secrets with that connection, or with any if it is
// empty.
func (m *managedUsers) uses(key, connection string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.byRole[key], func(u managedUser) bool { return connection == "" || u.connection == connection })
}

// logins is how many there are: one of each user.
func (m *managedUsers) logins() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// loginsOf is how many logins a secret has at most, which is one if it is none of a
// role's.
func (m *managedUsers) loginsOf(key, secret string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := 0
	for _, user := range m.byRole[key] {
		if user.secret == secret {
			count++
		}
	}
	return max(count, 1)
}

// named returns the managed users of that name, of any server, and beside them an error
// of roles.ErrDamaged about a role whose users are not known.
func (m *managedUsers) named(name string) ([]managedUser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	users := slices.Clone(m.byName[name])
	for _, key := range slices.Sorted(maps.Keys(m.unread)) {
		return users, fmt.Errorf("read %s: %w: %w", key, roles.ErrDamaged, m.unread[key])
	}
	return users, nil
}

// usersOf lists the users that a role manages, in the order of its secrets.
func usersOf(r *rotation.Role) ([]managedUser, error) {
	var users []managedUser
	s := r.Snapshot()
	for _, name := range s.Names() {
		if s.Secrets[name].Type != databaseType {
			continue
		}
		config, err := databaseConfig(s.Secrets[name])
		if err != nil {
			return nil, err
		}
		for _, username := range config.Usernames {
			users = append(users, managedUser{username, config.Connection, name, r.Name})
		}
	}
	return users, nil
}
