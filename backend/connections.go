package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// A connection is stored like a role: its one secret is the password of the
// administrator, and rotating that is the same transaction as any other.
const (
	connectionType = "connection"
	adminSecret    = "admin"
)

// findConnection returns an existing connection.
func (b *backend) findConnection(ctx context.Context, name string) (*rotation.Role, error) {
	r, err := b.registry.get(ctx, connectionPrefix, name)
	if err != nil {
		return nil, err
	}
	if r == nil || r.Snapshot().Deleted {
		return nil, invalid("connection", "unknown connection: %q; there is: %s", name, b.existing(ctx, connectionPrefix))
	}
	return r, nil
}

// existing lists what there is instead of a name that there is not.
func (b *backend) existing(ctx context.Context, prefix string) string {
	roles, err := b.registry.all(ctx, prefix)
	switch {
	case len(roles) == 0 && err != nil:
		return "none that can be read"
	case len(roles) == 0:
		return "none yet"
	}
	const most = 20
	var names []string
	for _, r := range roles[:min(len(roles), most)] {
		names = append(names, r.Name)
	}
	if len(roles) > most {
		names = append(names, "…")
	}
	return strings.Join(names, ", ")
}

// connection tells the PostgreSQL driver how to reach a server: the stored
// configuration and the logins of the administrator that may work now.
func (b *backend) connection(name string) (secret.Connection, error) {
	r, err := b.findConnection(b.engine.Context, name)
	if err != nil {
		return secret.Connection{}, err
	}
	admin := r.Snapshot().Secrets[adminSecret]
	if admin == nil || admin.Current == nil {
		return secret.Connection{}, fmt.Errorf("connection %s has no administrator", name)
	}
	config, err := connectionConfig(admin)
	if err != nil {
		return secret.Connection{}, err
	}
	logins := []secret.Login{login(admin.Current)}
	if admin.Pending != nil {
		logins = append(logins, login(admin.Pending))
	}
	return secret.Connection{Config: config, Logins: logins}, nil
}

func login(v *rotation.Value) secret.Login {
	return secret.Login{Username: v.Material["username"], Password: v.Material["password"]}
}

func connectionConfig(admin *rotation.Secret) (secret.ConnectionConfig, error) {
	var config secret.ConnectionConfig
	if err := json.Unmarshal(admin.Config, &config); err != nil {
		return config, fmt.Errorf("decode connection: %w", err)
	}
	return config, nil
}

// databaseConfig reads the configuration of a database secret.
func databaseConfig(s *rotation.Secret) (secret.DatabaseConfig, error) {
	var config secret.DatabaseConfig
	if err := json.Unmarshal(s.Config, &config); err != nil {
		return config, fmt.Errorf("decode secret %s: %w", s.Name, err)
	}
	return config, nil
}

// claims keeps a database user from being managed twice: two owners would
// overwrite each other's passwords. Users belong to a server, not to a database,
// so a claim is the server's address and the user's name.
type claims struct {
	mu sync.Mutex
	// reserved are the claims of secrets that are being created.
	reserved map[string]string
}

func claim(e secret.Endpoint, username string) string { return e.String() + "/" + username }

// reserve claims the users of a new database secret for owner, until release is
// called. By then the secret is part of a role's state, or was not created.
func (b *backend) reserve(ctx context.Context, owner string, config secret.DatabaseConfig) (release func(), err error) {
	endpoint, admin, err := b.server(ctx, config.Connection)
	if err != nil {
		return nil, err
	}
	if slices.Contains(config.Usernames, admin) {
		return nil, invalid("usernames", "%q is the administrator of connection %s; rotate it by rotate-root/%s, and manage a user of the application here", admin, config.Connection, config.Connection)
	}
	b.claims.mu.Lock()
	defer b.claims.mu.Unlock()
	owners, err := b.owners(ctx)
	if err != nil {
		return nil, err
	}
	for _, username := range config.Usernames {
		if other := owners[claim(endpoint, username)]; other != "" && other != owner {
			return nil, invalid("usernames", "%q at %s is managed by %s already", username, endpoint, other)
		}
	}
	for _, username := range config.Usernames {
		b.claims.reserved[claim(endpoint, username)] = owner
	}
	return func() { b.release(endpoint, config.Usernames) }, nil
}

func (b *backend) release(endpoint secret.Endpoint, usernames []string) {
	b.claims.mu.Lock()
	defer b.claims.mu.Unlock()
	for _, username := range usernames {
		delete(b.claims.reserved, claim(endpoint, username))
	}
}

// claimedAt lists who is creating a secret at a server. The caller holds the lock
// on claims.
func (b *backend) claimedAt(e secret.Endpoint) []string {
	var owners []string
	for claim, owner := range b.claims.reserved {
		if strings.HasPrefix(claim, e.String()+"/") && !slices.Contains(owners, owner) {
			owners = append(owners, owner)
		}
	}
	return owners
}

// owners says who owns which claim, administrators included. The caller holds
// the lock on claims.
func (b *backend) owners(ctx context.Context) (map[string]string, error) {
	owners, err := b.managed(ctx)
	if err != nil {
		return nil, err
	}
	connections, err := b.registry.all(ctx, connectionPrefix)
	if err != nil {
		return nil, fmt.Errorf("find out who the administrators are: %w", err)
	}
	for _, c := range connections {
		if endpoint, admin, err := b.server(ctx, c.Name); err == nil {
			owners[claim(endpoint, admin)] = fmt.Sprintf("connection %s, as its administrator,", c.Name)
		}
	}
	return owners, nil
}

// managed says which users belong to secrets of roles. A role that can't be read
// might own any user, so then nothing new may be claimed.
func (b *backend) managed(ctx context.Context) (map[string]string, error) {
	owners := maps.Clone(b.claims.reserved)
	roles, err := b.registry.all(ctx, rolePrefix)
	if err != nil {
		return nil, fmt.Errorf("find out which users are managed: %w", err)
	}
	for _, role := range roles {
		for _, s := range role.Snapshot().Secrets {
			if s.Type != databaseType {
				continue
			}
			config, err := databaseConfig(s)
			if err != nil {
				return nil, err
			}
			endpoint, _, err := b.server(ctx, config.Connection)
			if err != nil {
				return nil, err
			}
			for _, username := range config.Usernames {
				owners[claim(endpoint, username)] = fmt.Sprintf("secret %s of role %s", s.Name, role.Name)
			}
		}
	}
	return owners, nil
}

// checkAdminUnmanaged refuses an administrator that a role manages: rotating one
// of the two would lock out the other.
func (b *backend) checkAdminUnmanaged(ctx context.Context, admin rotation.Secret) error {
	config, err := connectionConfig(&admin)
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
	owners, err := b.managed(ctx)
	if err != nil {
		return err
	}
	if owner := owners[claim(endpoint, login(v).Username)]; owner != "" {
		return invalid("username", "%q at %s is managed by %s; the engine needs a user of its own", login(v).Username, endpoint, owner)
	}
	return nil
}

// server returns the address of a connection and the name of its administrator.
func (b *backend) server(ctx context.Context, name string) (secret.Endpoint, string, error) {
	r, err := b.findConnection(ctx, name)
	if err != nil {
		return secret.Endpoint{}, "", err
	}
	admin := r.Snapshot().Secrets[adminSecret]
	if admin == nil || admin.Current == nil {
		return secret.Endpoint{}, "", errors.New("connection " + name + " has no administrator")
	}
	config, err := connectionConfig(admin)
	if err != nil {
		return secret.Endpoint{}, "", err
	}
	endpoint, err := config.Endpoint()
	return endpoint, login(admin.Current).Username, err
}

// users lists the secrets that use a connection.
func (b *backend) users(ctx context.Context, connection string) ([]string, error) {
	roles, err := b.registry.all(ctx, rolePrefix)
	if err != nil {
		return nil, err
	}
	var users []string
	for _, role := range roles {
		for _, name := range role.Snapshot().Names() {
			s := role.Snapshot().Secrets[name]
			if config, err := databaseConfig(s); s.Type == databaseType && err == nil && config.Connection == connection {
				users = append(users, role.Name+"/"+name)
			}
		}
	}
	return users, nil
}
