package secret

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// report collects what Preflight found: problems make the rotation fail,
// findings are for the operator to know.
type report struct{ problems, findings []string }

func (r *report) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

func (r *report) finding(format string, args ...any) {
	r.findings = append(r.findings, fmt.Sprintf(format, args...))
}

// err wraps rotation.ErrInvalid around all problems, so that they can be fixed
// in one go.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w: usernames: %s", rotation.ErrInvalid, strings.Join(r.problems, "; "))
}

// Preflight checks the users and the administrator's privileges, and sets the
// password in a transaction that is rolled back. The verification statements are
// tried as the current login. What the operator has to fix wraps
// rotation.ErrInvalid and says the statement to run.
func (d *database) Preflight(ctx context.Context, s rotation.Secret, v rotation.Material) ([]string, error) {
	c, l, err := d.parts(s, v)
	if err != nil {
		return nil, err
	}
	var found report
	err = d.postgres.administer(ctx, c.Connection, rollback, func(conn *pgx.Conn, at server) error {
		if err := found.inspect(ctx, conn, c); err != nil {
			return err
		}
		if err := found.err(); err != nil {
			return err
		}
		if err := mayDrain(ctx, conn, c); err != nil {
			return err
		}
		return alter(ctx, conn, at, c, l)
	})
	if err != nil {
		return found.findings, err
	}
	return found.findings, d.tryCurrent(ctx, c, s, &found)
}

// tryCurrent runs the verification statements as the current login: what that
// cannot run, the pending one would be refused for. It adds a finding when the
// current login does not work any more: the rotation would mend that, but
// somebody else changed the password.
func (d *database) tryCurrent(ctx context.Context, c databaseSettings, s rotation.Secret, found *report) error {
	if s.Current == nil {
		return nil
	}
	l, err := loginOf(s.Current.Material)
	if err != nil {
		return err
	}
	err = d.tryOut(ctx, c.Connection, l, c.VerificationStatements)
	if errors.Is(err, rotation.ErrRefused) && !loginRefused(err) {
		return invalid("verification_statements", "the current login cannot %v", err)
	}
	if loginRefused(err) {
		found.finding("the current password of %q does not work (%v): somebody else changed it", l.Username, err)
		return nil
	}
	return err
}

// inspect looks at everything that can be known without changing anything.
func (r *report) inspect(ctx context.Context, conn *pgx.Conn, c databaseSettings) error {
	admin, err := inspectAdmin(ctx, conn)
	if err != nil {
		return err
	}
	var users []role
	for _, username := range c.Usernames {
		user, err := inspectRole(ctx, conn, username)
		if err != nil {
			return err
		}
		r.checkUser(admin, user, len(c.rotation) > 0)
		users = append(users, user)
	}
	if c.RotationStrategy == SingleUser || !users[0].found || !users[1].found {
		return nil
	}
	r.checkPair(admin, users[0], users[1])
	onlyFirst, onlySecond, err := grantsApart(ctx, conn, users[0], users[1])
	if err == nil && onlyFirst+onlySecond > 0 {
		r.finding("%q has privileges on %d objects that %q has none on, and %d the other way round: grant them to a role that both are members of",
			users[0].name, onlyFirst, users[1].name, onlySecond)
	}
	return err
}

// checkUser checks one managed user. With custom rotation statements it is not
// known what the administrator needs.
func (r *report) checkUser(admin administrator, user role, custom bool) {
	name := quoteName(user.name)
	if !user.found {
		r.problem("%q does not exist in PostgreSQL; run: CREATE ROLE %s LOGIN;", user.name, name)
		return
	}
	if user.name == admin.name {
		r.problem("%q is the connection's administrator, the engine would lock itself out: use another user", user.name)
		return
	}
	if !custom {
		r.lacking(admin.lacks(user))
	}
	if !user.login {
		r.problem("%q may not log in; run: ALTER ROLE %s LOGIN;", user.name, name)
	}
	if user.limit == 0 {
		r.problem("%q has a connection limit of 0; run: ALTER ROLE %s CONNECTION LIMIT -1;", user.name, name)
	} else if user.limit > 0 && user.sessions >= user.limit {
		r.finding("%q uses all %d connections of its limit, so that its new password cannot be tried", user.name, user.limit)
	}
	if user.expired {
		r.problem("the password of %q is no longer valid (VALID UNTIL is past); run: ALTER ROLE %s VALID UNTIL 'infinity';", user.name, name)
	} else if user.expiring {
		r.finding("logins of %q end within seven days (VALID UNTIL); run: ALTER ROLE %s VALID UNTIL 'infinity';", user.name, name)
	}
	if user.superuser {
		r.finding("%q is a superuser, which no application should be", user.name)
	}
}

// lacking adds what the administrator lacks, which may be the same for both users.
func (r *report) lacking(missing []string) {
	for _, problem := range missing {
		if !slices.Contains(r.problems, problem) {
			r.problems = append(r.problems, problem)
		}
	}
}

// checkPair checks what two alternating users must have in common: an
// application must be able to do as one what it did as the other.
func (r *report) checkPair(admin administrator, a, b role) {
	both := []string{a.name, b.name}
	r.checkMembership(admin, a, b)
	r.checkMembership(admin, b, a)
	if !slices.ContainsFunc(a.memberOf, func(g string) bool { return slices.Contains(b.memberOf, g) && !slices.Contains(both, g) }) {
		r.finding("%q and %q are members of no common role, so that what one creates the other does not own: make a role without LOGIN the owner, and grant it to both", a.name, b.name)
	}
	for _, user := range []role{a, b} {
		if user.owned > 0 {
			r.finding("%q owns %d objects itself, which the other user does not own; run in each database, with the role that both are members of: REASSIGN OWNED BY %s TO …;", user.name, user.owned, quoteName(user.name))
		}
	}
	if apart := difference(a.attributes, b.attributes); len(apart) > 0 {
		r.finding("%q and %q differ in these attributes: %s", a.name, b.name, strings.Join(apart, ", "))
	}
	if apart := difference(a.settings, b.settings); len(apart) > 0 {
		r.finding("%q and %q differ in these settings (ALTER ROLE … SET): %s", a.name, b.name, strings.Join(settingNames(apart), ", "))
	}
}

// checkMembership wants b to be a member of every role that a is a member of.
func (r *report) checkMembership(admin administrator, a, b role) {
	options := ""
	if admin.version >= 160000 {
		options = " WITH INHERIT TRUE, SET TRUE"
	}
	for _, group := range a.memberOf {
		if group != b.name && !slices.Contains(b.memberOf, group) {
			r.problem("%q is a member of %q and %q is not; run: GRANT %s TO %s%s;", a.name, group, b.name, quoteName(group), quoteName(b.name), options)
		}
	}
}

// difference returns what is in one list only.
func difference(a, b []string) []string {
	var apart []string
	for _, x := range slices.Concat(a, b) {
		if slices.Contains(a, x) != slices.Contains(b, x) {
			apart = append(apart, x)
		}
	}
	return apart
}

// settingNames cuts off the values, which may be secret (custom settings are).
func settingNames(settings []string) []string {
	var names []string
	for _, setting := range settings {
		name, _, _ := strings.Cut(setting, "=")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
