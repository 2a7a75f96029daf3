package secret

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// alter sets the password of v's user to v's, in a transaction that ends as end
// says. It neither looks at nor changes whether the user may log in.
func (d *database) alter(ctx context.Context, c databaseSettings, v rotation.Material, end ending) error {
	l, err := loginOf(v)
	if err != nil {
		return err
	}
	var used server
	err = d.postgres.administer(ctx, c.Connection, end, func(conn *pgx.Conn, at server) error {
		used = at
		password, err := at.given(v)
		if err != nil {
			return err
		}
		return d.alterOn(ctx, conn, password, c, l)
	})
	return used.wantsClearText(err)
}

// wantsClearText adds the way out to a password that was refused, at once or when it
// was to be committed, by a server that may want to see it.
func (s server) wantsClearText(err error) error {
	var commit *commitError
	code := codeOf(err)
	checked := code == codeInvalidAuthorization || code == codeInvalidPassword || code == codeInvalidParameter || code == codeRaised
	if s.config.PasswordAuthentication == AuthenticatePassword || loginRefused(err) || !errors.As(err, &commit) && !checked {
		return err
	}
	return fmt.Errorf("%w: if this server checks passwords, as some managed ones do, it needs them in clear text: set password_authentication=password on the connection", err)
}

// The SQLSTATEs with which hooks refuse a password that they can't check, beside those
// of a refused login.
const (
	codeInvalidParameter = "22023"
	codeRaised           = "P0001"
)

// clear makes every password of a user unusable: by removing it, or, where only
// the rotation statements may touch the user, by one that nobody knows.
func (d *database) clear(ctx context.Context, c databaseSettings, username string, fence rotation.Fence) error {
	if len(c.rotation) > 0 {
		return d.alter(ctx, c, databaseMaterial(username, randomPassword()), commit(fence))
	}
	err := d.postgres.administer(ctx, c.Connection, commit(fence), func(conn *pgx.Conn, _ server) error {
		return d.postgres.hold(ctx, conn, c.Connection, username, removePassword(username))
	})
	if err != nil {
		err = fmt.Errorf("remove password of %q: %w", username, err)
	}
	if codeOf(err) == codeInsufficientPrivilege {
		return d.explain(ctx, c, username, err)
	}
	return err
}

// alterOn is run within a transaction of the administrator. Password is what the server is given as the one of l. Who else manages the user is
// asked once nobody else can change it.
func (d *database) alterOn(ctx context.Context, conn *pgx.Conn, password string, c databaseSettings, l Login) error {
	if conn.Config().User == l.Username {
		return rotation.Invalid("usernames", "%q is the administrator of connection %q: the engine would lock itself out; use another user", l.Username, c.Connection)
	}
	if len(c.rotation) == 0 {
		return settingPassword(l, d.postgres.hold(ctx, conn, c.Connection, l.Username, alterRole(l.Username, password), l.Password, password))
	}
	if err := d.postgres.hold(ctx, conn, c.Connection, l.Username, ""); err != nil {
		return settingPassword(l, err)
	}
	conn.PgConn().CustomData()[altered] = true
	for i, s := range c.rotation {
		if err := executeOne(ctx, conn, s.fill(l.Username, password), l.Password, password); err != nil {
			return settingPassword(l, fmt.Errorf("run rotation statement %d: %w", i+1, unqualified(withoutMessage(err))))
		}
	}
	return nil
}

// unqualified adds to what the server does not find how names have to be written.
func unqualified(err error) error {
	switch codeOf(err) {
	case "42883", "42P01": // undefined function, undefined table
		return fmt.Errorf("%w: write names with their schema, as in public.set_password(…): the search_path is pg_catalog", err)
	}
	return err
}

// settingPassword wraps err, if there is one, with whose password was to be set.
func settingPassword(l Login, err error) error {
	switch codeOf(err) {
	case "":
		if err == nil {
			return nil
		}
	case codeInternalError:
		if strings.Contains(err.Error(), "tuple concurrently ") {
			return fmt.Errorf("set password of %q: somebody else changed this user at the same moment: try again (%w)", l.Username, err)
		}
	case codeUndefinedObject:
		return fmt.Errorf("set password of %q: %w: create the user%s", l.Username, err, makeUser(l.Username).Clause())
	}
	return fmt.Errorf("set password of %q: %w", l.Username, err)
}

// alterRole is the statement that sets a password, or the verifier of one.
func alterRole(username, password string) string {
	return "ALTER ROLE " + quoteName(username) + " WITH PASSWORD " + quoteLiteral(password)
}

// removePassword is the statement that leaves a user without any.
func removePassword(username string) string {
	return "ALTER ROLE " + quoteName(username) + " WITH PASSWORD NULL"
}

// randomPassword is one that nobody knows.
func randomPassword() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

// explain adds to a refused statement what the administrator lacks.
func (d *database) explain(ctx context.Context, c databaseSettings, username string, cause error) error {
	var found report
	err := d.postgres.administer(ctx, c.Connection, rollback, func(conn *pgx.Conn, _ server) error {
		admin, err := inspectAdmin(ctx, conn)
		if err != nil {
			return err
		}
		role, err := inspectRole(ctx, conn, username)
		found.checkAdmin(admin, role)
		return err
	})
	missing := lines(found.With(preflight.Error))
	if err != nil || len(missing) == 0 {
		return cause
	}
	return fmt.Errorf("%w: %s", cause, strings.Join(missing, "; "))
}
