package connections

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// identity is the id of the mount. It is made once and kept in storage, so that a Vault
// that is restored from a snapshot, or a mount that is moved, is the same owner.
type identity struct {
	mu sync.Mutex
	id string
}

// identityKey is where it is stored.
const identityKey = "mount"

// storedIdentity is how it is stored.
type storedIdentity struct {
	ID string `json:"id"`
}

// mountID returns the id of the mount.
func (c *Set) mountID(ctx context.Context) (string, error) {
	c.identity.mu.Lock()
	defer c.identity.mu.Unlock()
	if c.identity.id != "" {
		return c.identity.id, nil
	}
	stored := storedIdentity{ID: uuid.NewString()}
	found, err := c.ports.Store.Read(ctx, identityKey, &stored)
	if err != nil {
		return "", fmt.Errorf("%w: read the id of the mount: %w", rotation.ErrStorage, err)
	}
	if !found {
		err = c.ports.Store.Write(ctx, identityKey, stored)
	}
	if err != nil {
		return "", fmt.Errorf("%w: keep the id of the mount: %w", rotation.ErrStorage, err)
	}
	c.identity.id = stored.ID
	return stored.ID, nil
}

// OwnerOf implements postgres.Owners.
func (c *Set) OwnerOf(ctx context.Context, connection, username string) (postgres.Owner, error) {
	id, err := c.mountID(ctx)
	if err != nil {
		return postgres.Owner{}, err
	}
	owner := postgres.Owner{Mount: id, Path: c.ports.Mount()}
	reserved := *c.reserved.Load() // before what is managed: a secret is that first, and then not reserved any more
	managed, err := c.Managed.named(username)
	if err != nil {
		return owner, fmt.Errorf("find out which secret manages %q: %w", username, err)
	}
	for _, user := range slices.AppendSeq(managed, maps.Values(reserved)) {
		if user.name == username && user.connection == connection {
			owner.Role, owner.Secret = user.role, user.secret
		}
	}
	return owner, nil
}

// Claim has the server of a new secret tell others that its users are managed here.
func (c *Set) Claim(ctx context.Context, config database.Config) error {
	_, err := c.ports.Postgres.Claim(ctx, config.Connection, config.Usernames, false)
	switch {
	case errors.Is(err, postgres.ErrOwned):
		return rotation.Invalid("usernames", "%v (nothing was changed)", err)
	case err != nil:
		return unchanged(err)
	}
	return nil
}

// releaseTime bounds how long a deletion waits for a server.
const releaseTime = 10 * time.Second

// Release has the server of a secret that is gone no longer tell that its users are
// managed here. It returns what a person has to do where that did not work.
func (c *Set) Release(ctx context.Context, role string, s *rotation.Secret) []string {
	if s.Type != database.TypeName {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	config, err := database.ConfigOf(s)
	var owner postgres.Owner
	if err == nil {
		owner.Role, owner.Secret = role, s.Name
		owner.Mount, err = c.mountID(ctx)
	}
	if err == nil {
		err = c.ports.Postgres.Release(ctx, config.Connection, config.Usernames, owner)
	}
	if err == nil {
		return nil
	}
	return []string{fmt.Sprintf("the comments on %s in PostgreSQL may still say that this mount manages them (%v). Other mounts then refuse to manage them: remove the line as a superuser, or write take_over to a connection of the other mount", roles.Sample(config.Usernames), err)}
}

// takeOver makes users of other mounts this one's, by a connection that is about to be
// stored. It returns what is to be recorded.
func (c *Set) takeOver(ctx context.Context, name string, d *draft, usernames []string) (issues []string, err error) {
	for _, username := range usernames {
		switch {
		case username == postgres.LoginOf(d.value()).Username:
			return nil, rotation.Invalid("take_over", "%q is the administrator of the connection", username)
		case !d.settings.AllowsUser(username):
			return nil, rotation.Invalid("take_over", "%q is not in allowed_usernames of the connection", username)
		}
	}
	at := c.by(d)
	defer at.Close()
	former, err := at.Claim(ctx, name, usernames, true)
	if err != nil {
		return nil, fmt.Errorf("%w: take_over: %w (nothing was stored)", rotation.ErrInvalid, err)
	}
	var from []string
	for _, owner := range former {
		from = append(from, owner.String())
	}
	if len(from) == 0 {
		return []string{fmt.Sprintf("no user of %s had another owner", roles.Sample(usernames))}, nil
	}
	return []string{fmt.Sprintf("took over %s; the owner was %s, which can no longer manage them", roles.Sample(usernames), strings.Join(from, "; "))}, nil
}
