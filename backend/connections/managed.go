package connections

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// ManagedUsers are the users of databases that secrets manage, by name, so that
// nobody has to go through all roles to find one.
type ManagedUsers struct {
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

func newManagedUsers() *ManagedUsers {
	return &ManagedUsers{byName: map[string][]managedUser{}, byRole: map[string][]managedUser{}, unread: map[string]error{}}
}

// Note takes down whose users a role manages now.
func (m *ManagedUsers) Note(r *rotation.Role) {
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

// Forget drops what is known of a role.
func (m *ManagedUsers) Forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(key)
}

func (m *ManagedUsers) forgetLocked(key string) {
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

// Uses reports whether a role has secrets with that connection, or with any if it is
// empty.
func (m *ManagedUsers) Uses(key, connection string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.byRole[key], func(u managedUser) bool { return connection == "" || u.connection == connection })
}

// Logins is how many there are: one of each user.
func (m *ManagedUsers) Logins() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// LoginsOf is how many logins a secret has at most, which is one if it is none of a
// role's.
func (m *ManagedUsers) LoginsOf(key, secret string) int {
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
func (m *ManagedUsers) named(name string) ([]managedUser, error) {
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
		if s.Secrets[name].Type != database.TypeName {
			continue
		}
		config, err := database.ConfigOf(s.Secrets[name])
		if err != nil {
			return nil, err
		}
		for _, username := range config.Usernames {
			users = append(users, managedUser{username, config.Connection, name, r.Name})
		}
	}
	return users, nil
}
