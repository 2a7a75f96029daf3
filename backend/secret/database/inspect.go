package database

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

var _ secret.Inspector = (*driver)(nil)

// Inspect implements secret.Inspector. It looks at all that Preflight looks at, and at what
// no single rotation tells: the server's settings, its room for connections, its
// clock.
func (d *driver) Inspect(ctx context.Context, s rotation.Secret, about preflight.Subject) preflight.Report {
	var found report
	c, err := readConfig(s.Config)
	reached := false
	if err == nil {
		err = d.postgres.Look(ctx, c.Connection, func(conn *pgx.Conn, at postgres.Server) error {
			reached = true
			return d.inspect(ctx, conn, at, inspection{&found, about, c, s})
		})
	}
	if !reached {
		found.Expect(err == nil, "database.reachable", preflight.Error, preflight.Fix{}, "%v", err)
		return found.Report
	}
	found.Pass("database.reachable")
	// What was not looked at may be what makes a rotation fail.
	found.Expect(err == nil, "database.inspected", preflight.Error, about.Read("verify"), "the engine could not look at everything, so it is not known whether a rotation would work: %v", err)
	return found.Report
}

// inspection is one look at a server.
type inspection struct {
	*report
	about  preflight.Subject
	config settings
	secret rotation.Secret
}

func (d *driver) inspect(ctx context.Context, conn *pgx.Conn, at postgres.Server, i inspection) error {
	i.checkClock(ctx, conn, d.postgres.Now)
	until := horizon{i.about.Until.Sub(d.postgres.Now()), "before the rotation after the next one"}
	users, err := i.inspect(ctx, conn, i.config, i.secret, until)
	if err != nil {
		return err
	}
	if err := d.checkOwners(ctx, conn, i); err != nil {
		return err
	}
	admin, missing, err := lacksForDrain(ctx, conn, i.config)
	if err != nil {
		return err
	}
	i.Expect(len(missing) == 0, "database.on_overlap_end", preflight.Error, preflight.SQL(missing...),
		"the administrator %q has no right to %s, which on_overlap_end needs", admin.name, i.config.needs())
	self, err := inspectRole(ctx, conn, admin.name)
	if err != nil {
		return err
	}
	i.checkAdminExpiry(self, until)
	i.checkAdminLimit(self, at.Config.MaxOpenConnections)
	if err := i.checkCreating(ctx, conn, users); err != nil {
		return err
	}
	if err := i.checkPrivileges(ctx, conn, admin); err != nil {
		return err
	}
	on, err := inspectInstance(ctx, conn)
	if err != nil {
		return err
	}
	i.checkRoom(admin, users[0], on)
	i.checkWritable(on)
	i.checkClearText(admin, on, at.Config.PasswordAuthentication == postgres.AuthenticatePassword)
	return i.checkAuthentication(ctx, conn, on)
}

// checkPrivileges wants the users to have a right on one of the tables at least. They have none
// if a script was run in another database, or by a user who may not grant.
func (i inspection) checkPrivileges(ctx context.Context, conn *pgx.Conn, admin administrator) error {
	users, err := tell(ctx, conn, "u.rolname::text", unprivileged, i.config.Usernames)
	if err != nil {
		return fmt.Errorf("look for privileges on tables: %w", err)
	}
	i.Expect(len(users) == 0, "database.privileges", preflight.Warning, preflight.Fix{},
		"database %q has tables, and these users may read or write none of them: %q. Was the script that grants privileges run in another database, or by a user who may not grant them?", admin.database, users)
	return nil
}

// checkAdminLimit wants room for the engine's own connections: its pool, and one more
// to look at the server.
func (i inspection) checkAdminLimit(self role, pool int) {
	i.Expect(self.limit < 0 || self.limit > pool, "database.admin_connections", preflight.Warning,
		limit(self.name, pool+1),
		"the administrator %q may have %d connections, and the engine opens up to %d (max_open_connections, and one to look at the server)", self.name, self.limit, pool+1)
}

// checkRoom wants room for the connections that an overlap needs: those who move to
// the other user have the old ones open for a while. The engine itself needs one
// more.
func (i inspection) checkRoom(admin administrator, user role, on instance) {
	need := 1
	if i.config.RotationStrategy == AlternatingUsers {
		need += user.sessions
	}
	free := on.connections - on.reserved - on.used
	i.Expect(free >= need, "database.max_connections", preflight.Warning, preflight.SQL(preflight.Say("ALTER SYSTEM SET max_connections = %s", preflight.Number(on.connections+need))),
		"%d of %d connections are left, and an overlap needs %d more than there are now (max_connections changes with a restart)", max(free, 0), on.connections, need)
	free = on.databaseLimit - on.databaseUsed
	i.Expect(on.databaseLimit <= 0 || free >= need, "database.database_limit", preflight.Warning, preflight.SQL(preflight.Say("ALTER DATABASE %s CONNECTION LIMIT -1", preflight.Name(admin.database))),
		"database %q has a limit of %d connections, of which %d are left, and an overlap needs %d more than there are now", admin.database, on.databaseLimit, max(free, 0), need)
}

// checkWritable wants a server on which a password can be changed.
func (i inspection) checkWritable(on instance) {
	i.Expect(!on.standby, "database.primary", preflight.Error, preflight.Fix{}, "the server is a standby, on which nothing can be changed: give the connection the address of the primary")
}

// set gives the administrator a setting.
func set(admin administrator, setting preflight.Piece) preflight.Fix {
	return preflight.SQL(preflight.Say("ALTER ROLE %s SET %s", preflight.Name(admin.name), setting))
}

// leaks are the settings by which a server keeps the text of statements, with the
// value at which it does not.
var leaks = []struct {
	name string
	safe preflight.Piece
	kept func(value string) bool
}{
	{"log_statement", preflight.Words("log_statement = 'none'"), func(v string) bool { return v != "none" }},
	{"log_min_duration_statement", preflight.Words("log_min_duration_statement = -1"), func(v string) bool { return v != "-1" }},
	{"log_min_error_statement", preflight.Words("log_min_error_statement = 'panic'"), func(v string) bool { return v != "panic" && v != "fatal" }},
	{"pgaudit.log", preflight.Words("pgaudit.log = 'none'"), func(v string) bool { return v != "none" && v != "" }},
	{"pg_stat_statements.track_utility", preflight.Words("pg_stat_statements.track_utility = off"), func(v string) bool { return v == "on" }},
}

// checkClearText is about what the server does with the passwords that it is sent.
// It matters where they are sent in clear text; else it is verifiers that are logged.
func (i inspection) checkClearText(admin administrator, on instance, clear bool) {
	for _, leak := range leaks {
		value, known := on.settings[leak.name]
		i.Expect(!clear || !known || !leak.kept(value), "database.logging", preflight.Warning,
			set(admin, leak.safe),
			"the engine sends passwords in clear text (password_authentication=password), and the server logs statements because %s is %s", leak.name, value)
	}
}

// checkAuthentication looks at the stored passwords and at pg_hba.conf, as far as the
// administrator may; it needs neither for anything else.
func (i inspection) checkAuthentication(ctx context.Context, conn *pgx.Conn, on instance) error {
	const how = "only a superuser may look at %s: run this as one, it should show no row"
	users := i.config.Usernames
	if !on.seesVerifiers {
		i.Expect(false, "database.verifiers", preflight.Unknown, preflight.SQL(askVerifiers(users)), how, "how passwords are stored")
	} else if weak, err := tell(ctx, conn, "rolname::text", weakVerifiers, users); err != nil {
		return fmt.Errorf("look at stored passwords: %w", err)
	} else {
		i.Expect(len(weak) == 0, "database.verifiers", preflight.Warning, i.about.Write("rotate", "reason=md5"),
			"the passwords of these users are stored as MD5: %q", weak)
	}
	if !on.seesRules {
		i.Expect(false, "database.pg_hba", preflight.Unknown, preflight.SQL(askRules(users)), how, "pg_hba.conf")
		return nil
	}
	lines, err := tell(ctx, conn, "format('%s (%s)', line_number, auth_method)", openRules, users)
	if err != nil {
		return fmt.Errorf("look at pg_hba.conf: %w", err)
	}
	i.Expect(len(lines) == 0, "database.pg_hba", preflight.Warning, preflight.SQL(preflight.Say("SELECT pg_catalog.pg_reload_conf()")),
		"pg_hba.conf lets these users in without a password, or asks for it in clear text, in line %s: write scram-sha-256 there first", strings.Join(lines, ", "))
	return nil
}

// askVerifiers is how a person asks for weakVerifiers.
func askVerifiers(users []string) preflight.Statement {
	return preflight.Say(`SELECT rolname FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) ANY (ARRAY[%s]) AND rolpassword OPERATOR(pg_catalog.~~) 'md5%'`,
		preflight.Literals(users...))
}

// askRules is how a person asks for openRules.
func askRules(users []string) preflight.Statement {
	return preflight.Say(`SELECT line_number, auth_method FROM pg_catalog.pg_hba_file_rules
  WHERE auth_method OPERATOR(pg_catalog.=) ANY (ARRAY['trust', 'password']) AND type OPERATOR(pg_catalog.<>) 'local'
  AND database OPERATOR(pg_catalog.&&) ARRAY['all', pg_catalog.current_database()::pg_catalog.text] AND user_name OPERATOR(pg_catalog.&&) ARRAY['all', %s]`,
		preflight.Literals(users...))
}

// maxSkew is how far clocks may be apart before it matters.
const maxSkew = 5 * time.Second

// checkClock compares the clock of the server with that of this node. The answer was
// made at some time between the question and its arrival.
func (i inspection) checkClock(ctx context.Context, conn *pgx.Conn, now func() time.Time) {
	var there time.Time
	before := now()
	if err := postgres.QueryRow(ctx, conn, "SELECT clock_timestamp()", nil, &there); err != nil {
		i.Expect(false, "database.clock", preflight.Error, preflight.SQL(preflight.Say("SELECT pg_catalog.clock_timestamp()")), "the server did not answer what time it is: %v", err)
		return
	}
	way := now().Sub(before) / 2
	ahead := there.Sub(before.Add(way))
	i.Expect(ahead.Abs() <= maxSkew+way, "database.clock", preflight.Warning, preflight.Command("chronyc", "makestep"),
		"the clock of PostgreSQL is %s %s that of this Vault node, so VALID UNTIL, overlaps and tokens end at the wrong time: set the clock that is wrong",
		ahead.Abs().Round(time.Second), direction(ahead))
}

func direction(ahead time.Duration) string {
	if ahead < 0 {
		return "behind"
	}
	return "ahead of"
}
