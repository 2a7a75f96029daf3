package database

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// alter sets the password of v's user to v's, in a transaction that ends as end
// says. It neither looks at nor changes whether the user may log in.
func (d *driver) alter(ctx context.Context, c settings, v rotation.Material, end postgres.Ending) error {
	l, err := postgres.ReadLogin(v)
	if err != nil {
		return err
	}
	var used postgres.Server
	err = d.postgres.Administer(ctx, c.Connection, end, func(conn *pgx.Conn, at postgres.Server) error {
		used = at
		password, err := at.Given(v)
		if err != nil {
			return err
		}
		return d.alterOn(ctx, conn, password, c, l)
	})
	return used.WantsClearText(err)
}

// clear makes every password of a user unusable: by removing it, or, where only
// the rotation statements may touch the user, by one that nobody knows.
func (d *driver) clear(ctx context.Context, c settings, username string, fence rotation.Fence) error {
	if len(c.rotation) > 0 {
		return d.alter(ctx, c, postgres.Material(username, postgres.RandomPassword()), postgres.Commit(fence))
	}
	err := d.postgres.Administer(ctx, c.Connection, postgres.Commit(fence), func(conn *pgx.Conn, _ postgres.Server) error {
		return d.postgres.Hold(ctx, conn, c.Connection, username, postgres.RemovePassword(username))
	})
	if err != nil {
		err = fmt.Errorf("remove password of %q: %w", username, err)
	}
	if postgres.CodeOf(err) == postgres.CodeInsufficientPrivilege {
		return d.explain(ctx, c, username, err)
	}
	return err
}

// alterOn is run within a transaction of the administrator. Password is what the server is given as the one of l. Who else manages the user is
// asked once nobody else can change it.
func (d *driver) alterOn(ctx context.Context, conn *pgx.Conn, password string, c settings, l postgres.Login) error {
	if conn.Config().User == l.Username {
		return rotation.Invalid("usernames", "%q is the administrator of connection %q: the engine would lock itself out; use another user", l.Username, c.Connection)
	}
	if len(c.rotation) == 0 {
		return postgres.SetPasswordError(l, d.postgres.Hold(ctx, conn, c.Connection, l.Username, postgres.AlterPassword(l.Username, password), l.Password, password))
	}
	if err := d.postgres.Hold(ctx, conn, c.Connection, l.Username, ""); err != nil {
		return postgres.SetPasswordError(l, err)
	}
	postgres.MarkAltered(conn)
	for i, s := range c.rotation {
		if err := postgres.ExecuteOne(ctx, conn, s.fill(l.Username, password), l.Password, password); err != nil {
			return postgres.SetPasswordError(l, fmt.Errorf("run rotation statement %d: %w", i+1, unqualified(postgres.WithoutMessage(err))))
		}
	}
	return nil
}

// unqualified adds to what the server does not find how names have to be written.
func unqualified(err error) error {
	switch postgres.CodeOf(err) {
	case "42883", "42P01": // undefined function, undefined table
		return fmt.Errorf("%w: write names with their schema, as in public.set_password(…): the search_path is pg_catalog", err)
	}
	return err
}

// explain adds to a refused statement what the administrator lacks.
func (d *driver) explain(ctx context.Context, c settings, username string, cause error) error {
	var found report
	err := d.postgres.Administer(ctx, c.Connection, postgres.Rollback, func(conn *pgx.Conn, _ postgres.Server) error {
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
