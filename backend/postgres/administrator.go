package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// AdministratorRefused adds to a refused login of the administrator what to do about it: the
// engine has no other way in.
func AdministratorRefused(l Login, err error) error {
	if !PasswordRefused(err) {
		return err
	}
	return fmt.Errorf("%w: somebody changed the administrator's password by hand, another connection or mount with the same administrator rotated it, or Vault was restored from an older snapshot. As a superuser of PostgreSQL, give the administrator a new password%s, and write it to this connection as its password", err, InPsql(l.Username))
}

// InPsql is, in brackets, the command of psql that sets the password of a user; "" for a
// name that it does not take.
func InPsql(username string) string {
	command := preflight.SQL(preflight.SetPassword(username)).String()
	if command == "" {
		return ""
	}
	return " (in psql: " + command + ")"
}

// Superuser reports whether the administrator of a connection is a superuser.
func (p *Client) Superuser(ctx context.Context, connection string) (is bool, err error) {
	err = p.Look(ctx, connection, func(conn *pgx.Conn, _ Server) error {
		return QueryRow(ctx, conn, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user", nil, &is)
	})
	return is, err
}

// ChangeOwnPassword logs in as from, looks, and sets that user's password to the one of v.
func (s Server) ChangeOwnPassword(ctx context.Context, from Login, v rotation.Material, end Ending, look func(context.Context, *pgx.Conn) error) error {
	to, err := ReadLogin(v)
	if err != nil {
		return rotation.Unchanged(err)
	}
	password, err := s.Given(v)
	if err != nil {
		return rotation.Unchanged(err)
	}
	conn, err := s.Login(ctx, from)
	if err != nil {
		return rotation.Unchanged(err)
	}
	defer HangUp(ctx, conn)
	return s.WantsClearText(Within(ctx, conn, end, func() error {
		if err := look(ctx, conn); err != nil {
			return err
		}
		return SetPasswordError(to, Execute(ctx, conn, AlterPassword(to.Username, password), to.Password, password))
	}))
}
