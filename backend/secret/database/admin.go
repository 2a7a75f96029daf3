package database

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

var (
	_ secret.Values      = (*admin)(nil)
	_ rotation.Completer = (*admin)(nil)
)

// admin is the type "connection": the administrator's own login, with the
// postgres.Config itself as configuration. Its material is that of a database
// secret. A role may always change its own password, so that nothing but the
// login is needed; every login is a connection of its own, so that the pool can
// be broken and this still works.
type admin struct {
	postgres *postgres.Client
}

// NewAdmin returns the type of a connection's administrator. Its Import does not
// know the user name: see ImportAdmin.
func NewAdmin(postgres *postgres.Client) secret.Values { return &admin{postgres: postgres} }

// ImportAdmin makes the material of an administrator whose password the operator
// supplied. Its errors wrap rotation.ErrInvalid.
func ImportAdmin(username, password string) (rotation.Material, error) {
	if err := postgres.CheckName("username", username); err != nil {
		return nil, err
	}
	if err := postgres.CheckPassword("password", password); err != nil {
		return nil, err
	}
	return postgres.Material(username, password), nil
}

// Validate implements secret.Type.
func (*admin) Validate(config json.RawMessage) error {
	_, err := postgres.ReadConfig(rotation.Secret{Config: config})
	return err
}

// ValidateUpdate allows every change: whether the login works there is tried by
// whoever changes it.
func (a *admin) ValidateUpdate(_, _ json.RawMessage) error { return nil }

// Import takes a new password of the current user.
func (*admin) Import(s rotation.Secret, supplied string) (rotation.Material, error) {
	if s.Current == nil {
		return nil, rotation.Invalid("username", "is not known: import with ImportAdmin")
	}
	return ImportAdmin(s.Current.Material["username"], supplied)
}

// Create makes a new password for the current user.
func (a *admin) Create(ctx context.Context, s rotation.Secret) (rotation.Material, error) {
	if s.Current == nil {
		return nil, secret.ErrNoCurrent
	}
	l, err := postgres.ReadLogin(s.Current.Material)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return a.Complete(s, postgres.Material(l.Username, postgres.RandomPassword()))
}

// Set logs in with the current password and replaces it by v's. When the current
// one is refused and v's is accepted, that was done before, and is done again: a
// change that another node has left uncommitted then ends before this one.
func (a *admin) Set(ctx context.Context, s rotation.Secret, v rotation.Material, fence rotation.Fence) error {
	if s.Current == nil {
		return a.Test(ctx, s, v)
	}
	return a.replace(ctx, s, s.Current.Material, v, fence, lookFirst)
}

// lookFirst is what is looked at in the transaction of a change, before that: the login
// by which it was reached has shown the rest.
func lookFirst(ctx context.Context, conn *pgx.Conn) error {
	var found report
	at, err := inspectTarget(ctx, conn)
	if err != nil {
		return err
	}
	found.checkTarget(administrator{name: conn.Config().User, database: conn.Config().Database}, at)
	return found.err("connection")
}

// dontLook is for who puts back what was changed, or makes sure of it: that is tried
// whatever is to be expected.
func dontLook(context.Context, *pgx.Conn) error { return nil }

// replace makes the server accept to, logging in with from, or with to if that is
// what the server accepts already.
func (a *admin) replace(ctx context.Context, s rotation.Secret, from, to rotation.Material, fence rotation.Fence, look func(context.Context, *pgx.Conn) error) error {
	at, l, err := adminParts(s, to)
	if err != nil {
		return err
	}
	old, err := postgres.ReadLogin(from)
	if err != nil {
		return err
	}
	err = at.ChangeOwnPassword(ctx, old, to, postgres.Commit(fence), look)
	if !postgres.LoginRefused(err) {
		return err
	}
	if again := at.ChangeOwnPassword(ctx, l, to, postgres.Commit(fence), dontLook); !postgres.LoginRefused(again) {
		return again
	}
	return postgres.AdministratorRefused(old, err)
}

// Probe is Test: a login is all that is asked of an administrator.
func (a *admin) Probe(ctx context.Context, s rotation.Secret, v rotation.Material) error {
	return a.Test(ctx, s, v)
}

// Test logs in with v. The error wraps rotation.ErrRefused when the server
// answered and refused the login.
func (a *admin) Test(ctx context.Context, s rotation.Secret, v rotation.Material) error {
	at, l, err := adminParts(s, v)
	if err != nil {
		return err
	}
	err = at.Try(ctx, l)
	if postgres.LoginRefused(err) {
		return fmt.Errorf("%w: %w", rotation.ErrRefused, err)
	}
	return err
}

// Undo sets the current password again, logging in with the pending one if that is
// what the server accepts. It does so also when the current one still works: a
// change that another node has left uncommitted then ends before this one.
func (a *admin) Undo(ctx context.Context, s rotation.Secret, fence rotation.Fence) error {
	if s.Current == nil || s.Pending == nil {
		return nil
	}
	err := a.replace(ctx, s, s.Current.Material, s.Current.Material, fence, dontLook)
	if !postgres.LoginRefused(err) {
		return err
	}
	return a.replace(ctx, s, s.Pending.Material, s.Current.Material, fence, dontLook)
}

// Retire proves that v is refused; it was replaced at the cut-over.
func (a *admin) Retire(ctx context.Context, s rotation.Secret, v rotation.Material, _ rotation.Fence) error {
	at, l, err := adminParts(s, v)
	if err != nil {
		return err
	}
	if s.Current != nil && postgres.SameLogin(s.Current.Material, v) {
		return fmt.Errorf("retire password of %q: it is the current one", l.Username)
	}
	_, err = a.postgres.ProveRefused(ctx, at, l, "the retired password")
	return err
}

// CutsOver is true: there is one administrator.
func (*admin) CutsOver(rotation.Secret) bool { return true }

// OffersPrevious is false: the previous password stopped working at the cut-over.
func (*admin) OffersPrevious(rotation.Secret) bool { return false }

// Preflight logs in with the current password and sets v's in a transaction that
// is rolled back.
func (a *admin) Preflight(ctx context.Context, s rotation.Secret, v rotation.Material) ([]string, error) {
	at, _, err := adminParts(s, v)
	if err != nil || s.Current == nil {
		return nil, err
	}
	current, err := postgres.ReadLogin(s.Current.Material)
	if err != nil {
		return nil, err
	}
	if err := at.ChangeOwnPassword(ctx, current, v, postgres.Rollback, dontLook); err != nil {
		return nil, err
	}
	return adminFindings(ctx, at, current)
}

// adminFindings warns of a login that is about to end.
func adminFindings(ctx context.Context, at postgres.Server, l postgres.Login) ([]string, error) {
	conn, err := at.Login(ctx, l)
	if err != nil {
		return nil, err
	}
	defer postgres.HangUp(ctx, conn)
	var found report
	err = postgres.Within(ctx, conn, postgres.Rollback, func() error {
		self, err := inspectRole(ctx, conn, l.Username)
		found.checkAdminExpiry(self, horizon{week, "within seven days"})
		return err
	})
	return lines(found.Open()), err
}

// Fields is the user name only: nobody but the engine uses the password.
func (*admin) Fields(_ rotation.Secret, v rotation.Material) (map[string]string, error) {
	username, err := v.Content("username")
	return map[string]string{"username": username}, err
}

// PreviousFields is empty.
func (*admin) PreviousFields(rotation.Material) map[string]string { return nil }

// Verify logs in with the current password, and proves that the previous one is
// refused, or a random one where none is kept.
func (a *admin) Verify(ctx context.Context, s rotation.Secret) ([]string, error) {
	if s.Current == nil {
		return nil, secret.ErrNoCurrent
	}
	if err := a.Test(ctx, s, s.Current.Material); err != nil {
		return nil, err
	}
	at, current, err := adminParts(s, s.Current.Material)
	if err != nil {
		return nil, err
	}
	proof, err := wrongLogin(s, current).prove(ctx, a.postgres, at)
	if err != nil {
		return proofsOf(current, 0), err
	}
	return append(proofsOf(current, 0), proof), nil
}

// adminParts returns the server and the login that v stands for.
func adminParts(s rotation.Secret, v rotation.Material) (postgres.Server, postgres.Login, error) {
	c, err := postgres.ReadConfig(s)
	if err != nil {
		return postgres.Server{}, postgres.Login{}, err
	}
	at, err := postgres.NewServer(c)
	if err != nil {
		return postgres.Server{}, postgres.Login{}, err
	}
	l, err := postgres.ReadLogin(v)
	return at.Settled(), l, err
}

// Complete implements rotation.Completer.
func (*admin) Complete(s rotation.Secret, v rotation.Material) (rotation.Material, error) {
	c, err := postgres.ReadConfig(s)
	if err != nil {
		return nil, err
	}
	return c.WithVerifier(v)
}
