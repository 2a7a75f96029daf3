package connections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Write is a request to make or change a connection.
type Write struct {
	// Settings and Policy take over what the request names.
	Settings func(*postgres.Settings)
	Policy   func(*rotation.Policy) error
	// Username and Password are nil unless the request names them.
	Username, Password *string
	// Unverified stores the connection without logging in.
	Unverified bool
	// TakeOver are users of other mounts that are this one's from now on.
	TakeOver []string
	// Record begins the history record.
	Record func() *rotation.Record
}

// Write makes or changes a connection, and has the logins tried that lead elsewhere now.
// It returns what a person should know: also what readers get until then, and whose
// readers that may be is not known.
func (c *Set) Write(ctx context.Context, name string, w Write) (warnings []string, err error) {
	r, err := c.ports.Roles.Obtain(ctx, roles.ConnectionPrefix, name)
	if err != nil {
		return nil, err
	}
	d, err := c.draft(ctx, r, w)
	if err != nil {
		return nil, err
	}
	if err := c.admit(ctx, r, d, w); err != nil {
		return nil, err
	}
	if err := c.awaitMoves(ctx, r, d); err != nil {
		return nil, err
	}
	if err := c.save(ctx, r, d, w.Record); err != nil {
		return nil, err
	}
	if d.moves {
		c.ports.Moved(r.Name)
	}
	return c.warnings(ctx, r, d)
}

// admit refuses a draft that the server refuses, or by which two owners would manage a
// user, and makes this mount the owner of the users to take over.
func (c *Set) admit(ctx context.Context, r *rotation.Role, d *draft, w Write) error {
	if err := c.CheckAdmin(ctx, d.admin); err != nil {
		return err
	}
	if w.Unverified && d.admin.Pending != nil && len(d.based.UnderWay()) > 0 {
		return rotation.Invalid("verify_connection", "is false, and a rotation of the password of connection %s has not ended: the server may have one that only the engine knows, which a password that is not tried would replace. Write it without verify_connection=false. Nothing was stored", r.Name)
	}
	if !w.Unverified {
		if err := c.ports.Admin.Test(ctx, d.admin, d.value().Material); err != nil {
			return d.notLoggedIn(err)
		}
		d.issues = append(d.issues, c.tooMighty(ctx, r.Name, d)...)
	}
	if err := c.checkMoved(ctx, r, d); err != nil {
		return err
	}
	shared, err := c.sameAdministrator(ctx, r.Name, d)
	if err != nil {
		return err
	}
	d.issues = append(d.issues, shared...)
	if _, err := c.mountID(ctx); err != nil { // made with the first connection, by which users are managed
		return err
	}
	if len(w.TakeOver) == 0 {
		return nil
	}
	issues, err := c.takeOver(ctx, r.Name, d, w.TakeOver)
	d.issues = append(d.issues, issues...)
	return err
}

// tooMighty warns of a new login of a superuser. What can't be asked is no reason to refuse
// a login that works.
func (c *Set) tooMighty(ctx context.Context, name string, d *draft) []string {
	if d.admin.Pending == nil {
		return nil
	}
	at := c.by(d)
	defer at.Close()
	if is, err := at.Superuser(ctx, name); err != nil || !is {
		return nil
	}
	return []string{fmt.Sprintf("%q is a superuser. The engine needs far less, and whoever gets hold of this login controls the whole server: use a user with the rights that bootstrap/install/sql/postgresql.sql grants", d.value().Material["username"])}
}

// standsBy refuses a draft that leads to a standby.
func (d *draft) standsBy(err error) error {
	field := "host"
	if d.settings.ConnectionURL != "" {
		field = "connection_url"
	}
	return rotation.Invalid(field, "%v, on which nobody can change anything: give the address of the primary. With several hosts, the engine and applications find the primary themselves. Nothing was stored", err)
}

// sameAdministrator warns of a new login that another connection has too: whichever
// rotates the password locks out the other.
func (c *Set) sameAdministrator(ctx context.Context, name string, d *draft) ([]string, error) {
	if d.admin.Pending == nil && !d.moves {
		return nil, nil
	}
	endpoint, err := d.settings.Endpoint()
	if err != nil {
		return nil, err
	}
	all, err := c.ports.Roles.All(ctx, roles.ConnectionPrefix)
	if err != nil {
		return nil, fmt.Errorf("find out who the administrators are: %w", err)
	}
	username := d.value().Material["username"]
	for _, other := range all {
		there, admin, err := c.Server(ctx, other.Name)
		if err == nil && other.Name != name && admin == username && slices.Equal(there.Addresses, endpoint.Addresses) {
			return []string{fmt.Sprintf("connection %s logs in to the same server as %q too. When the password is rotated by one of the two connections, PostgreSQL refuses the other: give each connection a user of its own, or rotate this user's password by hand only, and write it to both", other.Name, username)}, nil
		}
	}
	return nil, nil
}

// notLoggedIn says which fields to look at when the login of a draft did not work.
func (d *draft) notLoggedIn(err error) error {
	if errors.Is(err, postgres.ErrStandby) {
		return d.standsBy(err)
	}
	if !postgres.PasswordRefused(err) {
		way := "host, port, database, sslmode"
		if d.settings.ConnectionURL != "" {
			way = "connection_url"
		}
		return rotation.Invalid(way+", username, password", "the engine could not log in: %v. Nothing was stored; verify_connection=false stores without logging in", err)
	}
	user := d.value().Material["username"]
	fields, look := "username, password", "PostgreSQL does not say which of the two is wrong, so look at username first, then at password"
	if known := d.admin.Current; known != nil && known.Material["username"] == user {
		fields, look = "password", "username is the stored one, so look at password"
	}
	return rotation.Invalid(fields, "the server refused this user name with this password: %s. A superuser can set another password%s. Nothing was stored: %v. verify_connection=false would store a login that does not work", look, postgres.InPsql(user), err)
}

// warnings are what a person should know of a draft that was stored.
func (c *Set) warnings(ctx context.Context, r *rotation.Role, d *draft) ([]string, error) {
	users, damaged, err := c.dependents(ctx, r.Name)
	warnings := d.issues
	if damaged != nil {
		warnings = append(warnings, fmt.Sprintf("the engine stored this, but could not check all secrets that use the connection: %v", damaged))
	}
	if d.moves && len(users) > 0 {
		warnings = append(warnings, fmt.Sprintf("readers of %s get the new address as a new version of their role, as soon as the engine has proven their logins there; until then they get the old one. Read status/<role> for what the server refuses", roles.Sample(named(users))))
	}
	return warnings, err
}

// save stores the draft, with a history record: who reaches the database as its
// administrator is worth an entry.
func (c *Set) save(ctx context.Context, r *rotation.Role, d *draft, record func() *rotation.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.checkDependents(ctx, r, d); err != nil {
		return err
	}
	rec := record()
	rec.Results[0].From, rec.Issues = d.based.Version, d.issues
	err := r.ReplaceAdministrator(ctx, rec, d.based, d.admin, d.policy)
	c.ports.Postgres.Forget(r.Name)
	return err
}

// awaitMoves waits until readers have been told of an earlier change of the connection,
// if that is under way: nobody has asked for it by name, who could be told to wait.
func (c *Set) awaitMoves(ctx context.Context, r *rotation.Role, d *draft) error {
	if !d.moves {
		return nil
	}
	users, _, err := c.dependents(ctx, r.Name)
	if err != nil {
		return err
	}
	for _, user := range users {
		run := user.role.Running()
		if run == nil || run.Operation().Kind != rotation.KindMove {
			continue
		}
		select {
		case <-run.Done():
		case <-ctx.Done():
			return fmt.Errorf("%w: role %s is being moved to an earlier change of connection %s; try again", rotation.ErrInFlight, user.role.Name, r.Name)
		}
	}
	return nil
}

// checkDependents refuses a draft that the secrets which use the connection, or are about
// to, could not live with. The caller holds mu.
func (c *Set) checkDependents(ctx context.Context, r *rotation.Role, d *draft) error {
	users, _, err := c.dependents(ctx, r.Name)
	if err != nil {
		return err
	}
	if err := checkNarrowed(d.settings.Access, users); err != nil {
		return err
	}
	endpoint, err := d.settings.Endpoint()
	if err != nil {
		return err
	}
	if owners := c.reservedAt(endpoint); len(owners) > 0 && (d.moves || d.regrants) {
		return fmt.Errorf("%w: %s is being created; try again", rotation.ErrInFlight, roles.Sample(owners))
	}
	for _, user := range users {
		if d.moves && user.role.Busy() {
			return fmt.Errorf("%w: an operation of role %s, which uses connection %s, is under way; try again", rotation.ErrInFlight, user.role.Name, r.Name)
		}
	}
	return nil
}

// Delete forgets a connection that no secret uses; one that there is not is forgotten.
func (c *Set) Delete(ctx context.Context, name string, record func() *rotation.Record) error {
	r, err := c.ports.Roles.Get(ctx, roles.ConnectionPrefix, name)
	if err != nil || r == nil || r.Snapshot().Deleted {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	users, damaged, err := c.dependents(ctx, name)
	if err := cmp.Or(err, damaged); err != nil {
		return err
	}
	using := named(users)
	if endpoint, _, err := c.Server(ctx, name); err == nil {
		using = append(using, c.reservedAt(endpoint)...)
	}
	if len(using) > 0 {
		return rotation.Invalid("name", "connection %s is used by %s; delete those secrets first", name, roles.Sample(using))
	}
	err = r.Delete(ctx, record(), func(*rotation.State) error { return nil })
	c.ports.Postgres.Forget(name)
	if errors.Is(err, rotation.ErrGone) {
		return nil
	}
	return err
}
