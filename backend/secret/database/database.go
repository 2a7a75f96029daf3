// Package database is the type of secret "database": logins of users of PostgreSQL that
// applications use. The administrator's own login is in admin.go. What both say to a
// server goes through package postgres; what they look for there, before a rotation and
// when somebody asks, is here.
package database

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

var (
	_ secret.Type        = (*driver)(nil)
	_ rotation.Completer = (*driver)(nil)
	_ rotation.Placer    = (*driver)(nil)
)

// New returns the type "database". Passwords makes passwords by the policies of
// Vault.
func New(postgres *postgres.Client, passwords secret.Passwords) secret.Type {
	return &driver{postgres: postgres, passwords: passwords}
}

// driver is the type "database". Its material is "username", "password", and
// "verifier": passwords reach PostgreSQL as SCRAM verifiers made here, so that the
// clear text is in none of its logs, statistics and backups.
type driver struct {
	postgres  *postgres.Client
	passwords secret.Passwords
}

// Create makes a password for the user that is not in use: the one there is, or
// of two the one that current does not have.
func (d *driver) Create(ctx context.Context, s rotation.Secret) (rotation.Material, error) {
	c, err := readConfig(s.Config)
	if err != nil {
		return nil, err
	}
	password, err := createPassword(ctx, d.passwords, c.PasswordPolicy)
	if err != nil {
		return nil, err
	}
	return d.Complete(s, postgres.Material(c.next(s), password))
}

// next is the user who gets the next password.
func (c settings) next(s rotation.Secret) string {
	if c.RotationStrategy == AlternatingUsers && s.Current != nil && s.Current.Material["username"] == c.Usernames[0] {
		return c.Usernames[1]
	}
	return c.Usernames[0]
}

// Import takes the password in use of the first user.
func (d *driver) Import(s rotation.Secret, supplied string) (rotation.Material, error) {
	c, err := readConfig(s.Config)
	if err != nil {
		return nil, err
	}
	if err := postgres.CheckPassword("password", supplied); err != nil {
		return nil, err
	}
	return postgres.Material(c.Usernames[0], supplied), nil
}

// Set makes the server accept the password of v for the user of v, in one
// transaction.
func (d *driver) Set(ctx context.Context, s rotation.Secret, v rotation.Material, fence rotation.Fence) error {
	c, l, err := d.parts(s, v)
	if err != nil {
		return err
	}
	err = d.alter(ctx, c, v, postgres.Commit(fence))
	if postgres.CodeOf(err) == postgres.CodeInsufficientPrivilege {
		return d.explain(ctx, c, l.Username, err)
	}
	return err
}

// Test logs in with v over a connection of its own and runs the verification
// statements. The error wraps rotation.ErrRefused when the server answered and
// refused the login or a statement, but not when it is starting up or shutting
// down, has no connection left, or has no such database.
func (d *driver) Test(ctx context.Context, s rotation.Secret, v rotation.Material) error {
	c, l, err := d.parts(s, v)
	if err != nil {
		return err
	}
	return d.tryOut(ctx, c, l, c.VerificationStatements)
}

// Place implements rotation.Placer: values are used by the way of their connection.
func (d *driver) Place(s rotation.Secret, v rotation.Material) (rotation.Material, error) {
	c, err := readConfig(s.Config)
	if err != nil {
		return nil, err
	}
	connection, err := d.postgres.Connection(c.Connection)
	if err != nil {
		return nil, err
	}
	return postgres.OnWay(v, connection.Settings.WayNumber), nil
}

// Probe is Test without the verification statements. Both fail on a standby, so that
// readers are not moved to one.
func (d *driver) Probe(ctx context.Context, s rotation.Secret, v rotation.Material) error {
	c, l, err := d.parts(s, v)
	if err != nil {
		return err
	}
	return d.tryOut(ctx, c, l, nil)
}

func (d *driver) tryOut(ctx context.Context, c settings, l postgres.Login, statements []string) error {
	at, err := d.postgres.Server(c.Connection)
	if err != nil {
		return err
	}
	conn, err := at.Login(ctx, l)
	if postgres.LoginRefused(err) {
		return fmt.Errorf("%w: %w", rotation.ErrRefused, err)
	}
	if err != nil {
		return err
	}
	defer c.hangUp(ctx, conn)
	return verifyStatements(ctx, conn, statements, l)
}

// hangUp closes a connection that was only to prove a login. If sessions are
// terminated that means waiting for the end of this one: it would be one of those
// that are counted in the record.
func (c settings) hangUp(ctx context.Context, conn *pgx.Conn) {
	if c.end() == rotation.TerminateAtEnd {
		postgres.AwaitEnd(conn)
	}
	postgres.HangUp(ctx, conn)
}

// verifyStatements runs the statements in one transaction that is rolled back.
func verifyStatements(ctx context.Context, conn *pgx.Conn, statements []string, l postgres.Login) error {
	if err := postgres.CheckPrimary(ctx, conn); err != nil {
		return fmt.Errorf("query as %q: %w", l.Username, err)
	}
	if len(statements) == 0 {
		return nil
	}
	if err := postgres.Execute(ctx, conn, postgres.BeginTrial); err != nil {
		return fmt.Errorf("begin transaction as %q: %w", l.Username, err)
	}
	return postgres.Finish(ctx, conn, postgres.Rollback, func() error {
		for i, sql := range statements {
			if err := postgres.ExecuteOne(ctx, conn, sql, l.Password); err != nil {
				return fmt.Errorf("run verification statement %d as %q: %w", i+1, l.Username, postgres.RefusedStatement(err))
			}
		}
		return nil
	})
}

// Undo makes the server accept again what it did before Set(pending). With a
// single user that is the current password; without one there is nothing to go
// back to, and nothing is done. With alternating users it is the previous
// password of the pending user while it is in its overlap, else none at all.
func (d *driver) Undo(ctx context.Context, s rotation.Secret, fence rotation.Fence) error {
	if s.Pending == nil {
		return nil
	}
	c, pending, err := d.parts(s, s.Pending.Material)
	if err != nil {
		return err
	}
	switch valid := s.PreviousAt(d.postgres.Now()); {
	case s.Current != nil && s.Current.Material["username"] == pending.Username:
		return d.Set(ctx, s, s.Current.Material, fence)
	case c.RotationStrategy == SingleUser:
		return nil
	case valid != nil && valid.Material["username"] == pending.Username:
		return d.Set(ctx, s, valid.Material, fence)
	}
	return d.clear(ctx, c, pending.Username, fence)
}

// Retire makes the password of v unusable and proves it by a login, unless there have
// been too many of those. It leaves
// the user of current alone: with a single user the old password stopped working
// at the cut-over already, and only the proof is left to do.
func (d *driver) Retire(ctx context.Context, s rotation.Secret, v rotation.Material, fence rotation.Fence) error {
	c, l, err := d.parts(s, v)
	if err != nil {
		return err
	}
	at, err := d.postgres.Server(c.Connection)
	if err != nil {
		return err
	}
	if s.Current != nil && s.Current.Material["username"] == l.Username {
		if c.RotationStrategy == AlternatingUsers || s.Current.Material["password"] == l.Password {
			return fmt.Errorf("retire password of %q: it is the current user, which stays as it is", l.Username)
		}
	} else if err := d.clear(ctx, c, l.Username, fence); err != nil {
		return err
	}
	_, err = d.postgres.ProveRefused(ctx, at, l, "the retired password")
	return err
}

// CutsOver is true when the password in use is the one that Set replaces.
func (d *driver) CutsOver(s rotation.Secret) bool {
	c, err := readConfig(s.Config)
	return err == nil && c.RotationStrategy == SingleUser && s.Current != nil
}

// OffersPrevious is false for a single user, whose previous password is kept for
// a rollback only.
func (d *driver) OffersPrevious(s rotation.Secret) bool {
	c, err := readConfig(s.Config)
	return err == nil && c.RotationStrategy == AlternatingUsers
}

// Fields implements secret.Type.
func (d *driver) Fields(s rotation.Secret, v rotation.Material) (map[string]string, error) {
	c, l, err := d.parts(s, v)
	if err != nil {
		return nil, err
	}
	connection, err := d.postgres.Connection(c.Connection)
	if err != nil {
		return nil, err
	}
	way, err := connection.Settings.WayOf(v)
	if err != nil {
		return nil, fmt.Errorf("read connection %q: %w", c.Connection, err)
	}
	fields := way.Fields()
	fields["username"], fields["password"], fields["connection_string"] = l.Username, l.Password, way.ConnectionString(l)
	return fields, nil
}

// PreviousFields is empty: a login is one user and one password, and readers
// that want the previous one ask for stage=previous.
func (d *driver) PreviousFields(rotation.Material) map[string]string { return nil }

// parts returns the configuration of s and the login that v stands for, which
// must be of a user that s manages.
func (d *driver) parts(s rotation.Secret, v rotation.Material) (settings, postgres.Login, error) {
	c, err := readConfig(s.Config)
	if err != nil {
		return c, postgres.Login{}, err
	}
	l, err := postgres.ReadLogin(v)
	if err == nil && !c.manages(l.Username) {
		err = fmt.Errorf("value is of user %q, which is not in usernames", l.Username)
	}
	return c, l, err
}

// createPassword returns a new password: by the Vault policy if one is named,
// else 32 random bytes in base64, as openssl rand -base64 32 prints.
func createPassword(ctx context.Context, passwords secret.Passwords, policy string) (string, error) {
	if policy == "" {
		return postgres.RandomPassword(), ctx.Err()
	}
	password, err := passwords.Generate(ctx, policy)
	if err != nil {
		return "", fmt.Errorf("generate password by password policy %q: %w", policy, err)
	}
	if err := postgres.CheckPassword("password_policy", password); err != nil {
		return "", fmt.Errorf("use what password policy %q made: %w", policy, err)
	}
	return password, nil
}

// Complete implements rotation.Completer.
func (d *driver) Complete(s rotation.Secret, v rotation.Material) (rotation.Material, error) {
	c, err := readConfig(s.Config)
	if err != nil {
		return nil, err
	}
	connection, err := d.postgres.Connection(c.Connection)
	if err != nil {
		return nil, err
	}
	return connection.Settings.WithVerifier(v)
}

// TypeName is the name of the type whose values are logins of users of PostgreSQL.
const TypeName = "database"
