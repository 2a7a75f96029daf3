package backend

import (
	"context"
	"errors"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// by reaches the server of a connection that is about to be stored.
func (b *backend) by(draft *connectionDraft) *secret.Postgres {
	return secret.NewPostgres(func(string) (secret.Connection, error) {
		return secret.Connection{Config: draft.settings, Logins: []secret.Login{draft.login()}}, nil
	}, b.ownerOf)
}

// checkMoved refuses a connection that is changed to lead to another address, where the
// users of its secrets have another owner. A server that does not answer can't tell, and
// must not keep anybody from leaving it: whether that is stored is for verify_connection
// to say, and rotations ask for other mounts again.
func (b *backend) checkMoved(ctx context.Context, r *rotation.Role, draft *connectionDraft) error {
	users, _, err := b.users(ctx, r.Name) // what is damaged keeps no connection from being written
	if err != nil || len(users) == 0 {
		return err
	}
	to, err := draft.settings.Endpoint()
	if err != nil {
		return err
	}
	if from, _, err := b.server(ctx, r.Name); err != nil || from.String() == to.String() {
		return err
	}
	at := b.by(draft)
	defer at.Close()
	if _, err := at.Started(ctx, r.Name); err != nil {
		return nil //nolint:nilerr // it does not answer
	}
	for _, user := range users {
		if err := b.checkMovedUser(ctx, user, to, at); err != nil {
			return err
		}
	}
	return nil
}

// checkMovedUser refuses one secret whose users have another owner at the server that at
// reaches.
func (b *backend) checkMovedUser(ctx context.Context, user connectionUser, to secret.Endpoint, at *secret.Postgres) error {
	own := managedUser{role: user.role.Name, secret: user.secret.Name}.manager()
	for _, username := range user.config.Usernames {
		b.claims.mu.Lock()
		other, err := b.owner(ctx, to, username)
		b.claims.mu.Unlock()
		if err != nil && !errors.Is(err, roles.ErrDamaged) {
			return err
		}
		if other != "" && other != own {
			return invalid("host", "%q, of %s, is managed by %s at %s: nothing was stored", username, user, other, to)
		}
	}
	if err := b.checkOtherAddresses(ctx, user.role.Name, user.secret.Name, user.config, to, at); err != nil && !errors.Is(err, errNotTold) {
		return err
	}
	if _, err := at.Claim(ctx, user.config.Connection, user.config.Usernames, false); errors.Is(err, secret.ErrOwned) {
		return invalid("host", "%v (nothing was stored)", err)
	}
	return nil
}
