package database

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// report is what was found at a server.
type report struct{ preflight.Report }

// lines tells findings, one in a line each.
func lines(findings preflight.Report) []string {
	var told []string
	for _, f := range findings {
		told = append(told, f.String())
	}
	return told
}

// err wraps rotation.ErrInvalid around all that makes the rotation fail, so that it
// can be fixed in one go. Field is what it is about.
func (r *report) err(field string) error {
	problems := lines(r.With(preflight.Error))
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s: %s", rotation.ErrInvalid, field, strings.Join(problems, "; "))
}

// horizon is how long logins have to work.
type horizon struct {
	left time.Duration
	// what says it in words.
	what string
}

// week is how far Preflight looks ahead.
const week = 7 * 24 * time.Hour

// Preflight checks the users and the administrator's privileges, and sets the
// password in a transaction that is rolled back. The verification statements are
// tried as the current login. What the operator has to fix wraps
// rotation.ErrInvalid and says the statement to run.
func (d *driver) Preflight(ctx context.Context, s rotation.Secret, v rotation.Material) ([]string, error) {
	c, l, err := d.parts(s, v)
	if err != nil {
		return nil, err
	}
	var found report
	err = d.postgres.Look(ctx, c.Connection, func(conn *pgx.Conn, _ postgres.Server) error {
		if _, err := found.inspect(ctx, conn, c, s, horizon{week, "within seven days"}); err != nil {
			return err
		}
		if _, err := d.checkForeign(ctx, conn, &found, c); err != nil {
			return err
		}
		if err := found.err("usernames"); err != nil {
			return err
		}
		if err := found.checkInUse(ctx, conn, s, v, l.Username); err != nil {
			return err
		}
		return mayDrain(ctx, conn, c)
	})
	if err == nil {
		err = d.alter(ctx, c, v, postgres.Rollback)
	}
	if err == nil {
		err = d.tryCurrent(ctx, c, s, &found)
	}
	return lines(found.With(preflight.Warning)), err
}

// checkInUse warns of a new secret that replaces the password of a user with whom somebody
// is logged in. A value that was supplied has no verifier, and replaces nothing.
func (r *report) checkInUse(ctx context.Context, conn *pgx.Conn, s rotation.Secret, v rotation.Material, username string) error {
	if s.Current != nil || v["verifier"] == "" {
		return nil
	}
	count, err := countSessions(ctx, conn, username, nil)
	r.Expect(count == 0, "database.in_use", preflight.Warning, preflight.Fix{}, "%q has %d open sessions, and its password is another one now: whoever logs in with the earlier one is refused until they read creds. To keep the password of a user that is in use, create the secret with password and skip_import_rotation=true", username, count)
	return err
}

// tryCurrent runs the verification statements as the current login: what that
// cannot run, the pending one would be refused for. It adds a finding when the
// current login does not work any more: the rotation would mend that, but
// somebody else changed the password.
func (d *driver) tryCurrent(ctx context.Context, c settings, s rotation.Secret, found *report) error {
	if s.Current == nil {
		return nil
	}
	l, err := postgres.ReadLogin(s.Current.Material)
	if err != nil {
		return err
	}
	err = d.tryOut(ctx, c, l, c.VerificationStatements)
	if errors.Is(err, rotation.ErrRefused) && !postgres.LoginRefused(err) {
		return rotation.Invalid("verification_statements", "the current login cannot %v", err)
	}
	if postgres.LoginRefused(err) {
		found.Expect(false, "database.current", preflight.Warning, preflight.Fix{}, "the current password of %q does not work (%v): somebody else changed it", l.Username, err)
		return nil
	}
	return err
}

// inspect looks at all that a rotation needs and that can be known without changing
// anything. It returns the users, the one in use first.
func (r *report) inspect(ctx context.Context, conn *pgx.Conn, c settings, s rotation.Secret, until horizon) ([]role, error) {
	admin, err := inspectAdmin(ctx, conn)
	if err != nil {
		return nil, err
	}
	at, err := inspectTarget(ctx, conn)
	if err != nil {
		return nil, err
	}
	r.checkTarget(admin, at)
	var users []role
	for _, username := range c.Usernames {
		user, err := inspectRole(ctx, conn, username)
		if err != nil {
			return nil, err
		}
		r.checkUser(admin, user, len(c.rotation) > 0, until)
		severity := preflight.Warning
		if username == c.next(s) {
			severity = preflight.Error
		}
		r.checkSessions(user, severity)
		users = append(users, user)
	}
	if c.RotationStrategy == SingleUser || !users[0].found || !users[1].found {
		return users, nil
	}
	if s.Current != nil && s.Current.Material["username"] == users[1].name {
		users[0], users[1] = users[1], users[0]
	}
	owner, err := inspectOwner(ctx, conn, users[0], users[1])
	if err != nil {
		return users, err
	}
	r.checkPair(admin, users[0], users[1], owner)
	return users, r.checkGrants(ctx, conn, admin, users[0], users[1])
}

// checkUser checks one managed user. With custom rotation statements it is not
// known what the administrator needs.
func (r *report) checkUser(admin administrator, user role, custom bool, until horizon) {
	name := preflight.Name(user.name)
	alter := func(what preflight.Piece) preflight.Fix {
		return preflight.SQL(preflight.Say("ALTER ROLE %s %s", name, what))
	}
	if !r.Expect(user.found, "database.user", preflight.Error, postgres.CreateUserFix(user.name), "%q does not exist in PostgreSQL (is the name misspelt?)", user.name) {
		return
	}
	if !r.Expect(user.name != admin.name, "database.user_is_admin", preflight.Error, preflight.Fix{}, "%q is the connection's administrator, and the engine would lock itself out: use another user", user.name) {
		return
	}
	if !custom {
		r.checkAdmin(admin, user)
	}
	r.Expect(user.login, "database.login", preflight.Error, alter(preflight.Words("LOGIN")), "%q may not log in: if it only owns objects, name one of its members that logs in instead; otherwise let it", user.name)
	r.Expect(user.connects, "database.connect", preflight.Error, preflight.SQL(preflight.Say("GRANT CONNECT ON DATABASE %s TO %s", preflight.Name(admin.database), name)),
		"%q may not connect to database %q", user.name, admin.database)
	r.Expect(user.limit != 0, "database.connection_limit", preflight.Error, alter(preflight.Words("CONNECTION LIMIT -1")), "%q has a connection limit of 0", user.name)
	expired, never := user.endsWithin(0), alter(preflight.Words("VALID UNTIL 'infinity'"))
	r.Expect(!expired, "database.valid_until", preflight.Error, never, "the password of %q is no longer valid (VALID UNTIL is past)", user.name)
	r.Expect(expired || !user.endsWithin(until.left), "database.valid_until", preflight.Warning, never, "logins of %q end %s (VALID UNTIL)", user.name, until.what)
	r.Expect(!user.superuser || !admin.superuser, "database.superuser", preflight.Warning, preflight.Fix{}, "%q is a superuser, which no application should be: use another user", user.name)
}

// checkSessions wants room for one more session of a user, to try a password.
func (r *report) checkSessions(user role, severity preflight.Severity) {
	r.Expect(user.superuser || user.limit <= 0 || user.sessions < user.limit, "database.connection_limit", severity, limit(user.name, 2*user.limit),
		"%q uses all %d connections of its limit, so the engine can't try its new password", user.name, user.limit)
}

// limit lets a role have so many connections.
func limit(role string, connections int) preflight.Fix {
	return preflight.SQL(preflight.Say("ALTER ROLE %s CONNECTION LIMIT %s", preflight.Name(role), preflight.Number(connections)))
}

// checkAdmin checks what the administrator needs to change the password of a user.
func (r *report) checkAdmin(admin administrator, user role) {
	name, self := preflight.Name(user.name), preflight.Name(admin.name)
	// No fix that takes these away: others may depend on them, and there may be no other superuser.
	r.Expect(admin.superuser || !user.superuser, "database.superuser", preflight.Error, preflight.Fix{},
		"%q is a superuser, whose password only a superuser may change: use another user, or, if somebody made this one a superuser by mistake, take that back", user.name)
	r.Expect(admin.superuser || user.superuser || !user.replication || admin.version >= 160000, "database.replication", preflight.Error, preflight.Fix{},
		"%q has REPLICATION, so before PostgreSQL 16 only a superuser may change its password: use another user, or, if nothing replicates as this one, take that back", user.name)
	r.Expect(admin.superuser || admin.createRole, "database.admin_createrole", preflight.Error, preflight.SQL(preflight.Say("ALTER ROLE %s CREATEROLE", self)),
		"the administrator %q may not change passwords of others", admin.name)
	r.Expect(admin.superuser || admin.version < 160000 || user.adminOption, "database.admin_option", preflight.Error,
		preflight.SQL(preflight.Say("GRANT %s TO %s WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", name, self)),
		"the administrator %q has no ADMIN OPTION on %q, which PostgreSQL 16 and later require", admin.name, user.name)
}

// checkAdminExpiry checks that the administrator can go on to log in.
func (r *report) checkAdminExpiry(self role, until horizon) {
	r.Expect(!self.endsWithin(until.left), "database.admin_valid_until", preflight.Warning, preflight.SQL(preflight.Say("ALTER ROLE %s VALID UNTIL 'infinity'", preflight.Name(self.name))),
		"logins of the administrator %q end %s (VALID UNTIL)", self.name, until.what)
}
