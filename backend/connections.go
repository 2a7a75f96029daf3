package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
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
	r, err := b.registry.Get(ctx, roles.ConnectionPrefix, name)
	if err != nil {
		return nil, err
	}
	if r == nil || r.Snapshot().Deleted {
		return nil, invalid("connection", "unknown connection: %q; there is: %s", name, b.existing(ctx, roles.ConnectionPrefix))
	}
	return r, nil
}

// existing lists what there is instead of a name that there is not.
func (b *backend) existing(ctx context.Context, prefix string) string {
	all, err := b.registry.All(ctx, prefix)
	switch {
	case len(all) == 0 && err != nil:
		return "none that can be read"
	case len(all) == 0:
		return "none yet"
	}
	const most = 20
	var names []string
	for _, r := range all[:min(len(all), most)] {
		names = append(names, r.Name)
	}
	if len(all) > most {
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
	config, err := connectionSettings(admin)
	if err != nil {
		return secret.Connection{}, err
	}
	logins := []secret.Login{login(admin.Current)}
	if v := admin.Undecided(); v != nil {
		logins = append(logins, login(v))
	}
	return secret.Connection{Config: config, Logins: logins}, nil
}

func login(v *rotation.Value) secret.Login {
	return secret.Login{Username: v.Material["username"], Password: v.Material["password"]}
}

func connectionSettings(admin *rotation.Secret) (secret.ConnectionSettings, error) {
	var settings secret.ConnectionSettings
	if err := json.Unmarshal(admin.Config, &settings); err != nil {
		return settings, fmt.Errorf("decode connection: %w", err)
	}
	return settings, nil
}

// databaseConfig reads the configuration of a database secret.
func databaseConfig(s *rotation.Secret) (secret.DatabaseConfig, error) {
	var config secret.DatabaseConfig
	if err := json.Unmarshal(s.Config, &config); err != nil {
		return config, fmt.Errorf("decode secret %s: %w", s.Name, err)
	}
	return config, nil
}

// connectionsOf names the connections that the secrets of a role use.
func connectionsOf(r *rotation.Role) (names []string) {
	for _, s := range r.Snapshot().Secrets {
		if s.Type != databaseType {
			continue
		}
		if config, err := databaseConfig(s); err == nil {
			names = append(names, config.Connection)
		}
	}
	return names
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
	config, err := connectionSettings(admin)
	if err != nil {
		return secret.Endpoint{}, "", err
	}
	endpoint, err := config.Endpoint()
	return endpoint, login(admin.Current).Username, err
}

// connectionUser is a database secret that uses a connection.
type connectionUser struct {
	role   *rotation.Role
	secret *rotation.Secret
	config secret.DatabaseConfig
}

func (u connectionUser) String() string { return u.role.Name + "/" + u.secret.Name }

// users lists the secrets that use a connection. Whether those of damaged roles do is
// not known, which damaged tells.
func (b *backend) users(ctx context.Context, connection string) (users []connectionUser, damaged, err error) {
	all, damaged, err := b.registry.Readable(ctx, roles.Prefix)
	if err != nil {
		return nil, nil, err
	}
	for _, role := range all {
		s := role.Snapshot()
		for _, name := range s.Names() {
			if s.Secrets[name].Type != databaseType {
				continue
			}
			config, err := databaseConfig(s.Secrets[name])
			if err != nil {
				damaged = errors.Join(damaged, fmt.Errorf("read %s: %w: %w", role.Key, roles.ErrDamaged, err))
				continue
			}
			if config.Connection == connection {
				users = append(users, connectionUser{role, s.Secrets[name], config})
			}
		}
	}
	return users, damaged, nil
}

// named are the users as a person is told them.
func named(users []connectionUser) []string {
	names := make([]string, 0, len(users))
	for _, user := range users {
		names = append(names, user.String())
	}
	return names
}
