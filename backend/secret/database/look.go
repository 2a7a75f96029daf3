package database

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

var _ rotation.Looker = (*driver)(nil)

// Look implements rotation.Looker, by one query on a connection of the pool. It looks
// at the user whose password is to be set, for what Preflight calls errors there.
func (d *driver) Look(ctx context.Context, s rotation.Secret, v rotation.Material) error {
	c, l, err := d.parts(s, v)
	if err != nil {
		return err
	}
	return d.postgres.Administer(ctx, c.Connection, postgres.Rollback, func(conn *pgx.Conn, _ postgres.Server) error {
		var found report
		admin, user, at, err := lookAt(ctx, conn, l.Username)
		if err != nil {
			return err
		}
		found.checkUser(admin, user, len(c.rotation) > 0, horizon{})
		if user.found {
			found.checkSessions(user, preflight.Error)
			found.checkTarget(admin, at)
		}
		return found.err("usernames")
	})
}

// lookAt asks about a user, and all that is needed to change it. Where there is no such
// user, it tells nothing else.
func lookAt(ctx context.Context, conn *pgx.Conn, username string) (admin administrator, user role, at target, err error) {
	user.name = username
	columns := append(append(admin.columns(), user.logins()...), at.columns()...)
	err = postgres.QueryRow(ctx, conn, `
		SELECT `+adminColumns+`, `+loginColumns+`, `+targetColumns+`
		FROM pg_catalog.pg_roles a, pg_catalog.pg_roles r, `+targetTables+`
		WHERE a.rolname = current_user AND r.rolname = $1 AND `+thisTarget, []any{username}, columns...)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return admin, user, at, nil
	case err != nil:
		return admin, user, at, fmt.Errorf("look at user %q: %w", username, err)
	}
	user.found = true
	return admin, user, at, nil
}

// target is what PostgreSQL says about the database, and about who has to confirm what
// is committed.
type target struct {
	// open says that the database lets anybody in, and limit how many, -1 for any number.
	open  bool
	limit int
	// standbys is synchronous_standby_names, and commit synchronous_commit, in force for
	// the administrator.
	standbys, commit string
	// senders is how many processes send the log to others, and synchronous how many of
	// these confirm commits, which is known where seen is true.
	senders, synchronous int
	seen                 bool
}

// targetColumns are the columns of a target, of targetTables where thisTarget is true.
const targetColumns = `d.datallowconn, d.datconnlimit, pg_catalog.current_setting('synchronous_standby_names'), pg_catalog.current_setting('synchronous_commit'),
		w.senders, w.synchronous, pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')`

const (
	targetTables = `pg_catalog.pg_database d, (SELECT pg_catalog.count(*) AS senders,
			pg_catalog.count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) AS synchronous FROM pg_catalog.pg_stat_get_wal_senders()) w`
	thisTarget = `d.datname = pg_catalog.current_database()`
)

// columns are where targetColumns go.
func (t *target) columns() []any {
	return []any{&t.open, &t.limit, &t.standbys, &t.commit, &t.senders, &t.synchronous, &t.seen}
}

func inspectTarget(ctx context.Context, conn *pgx.Conn) (at target, err error) {
	err = postgres.QueryRow(ctx, conn, "SELECT "+targetColumns+" FROM "+targetTables+" WHERE "+thisTarget, nil, at.columns()...)
	if err != nil {
		return at, fmt.Errorf("look at the database and its standbys: %w", err)
	}
	return at, nil
}

// numbered is a synchronous_standby_names that says how many have to confirm.
var numbered = regexp.MustCompile(`(?i)^\s*(?:(?:first|any)\s+)?(\d+)\s*\(`)

// unconfirmed is how many standbys that have to confirm a commit are missing.
func (t target) unconfirmed() int {
	if t.standbys == "" || t.commit == "local" || t.commit == "off" {
		return 0
	}
	wanted := 1
	if match := numbered.FindStringSubmatch(t.standbys); match != nil {
		wanted, _ = strconv.Atoi(match[1])
	}
	connected := t.senders // of which others may be, where it is not known which are what
	if t.seen {
		connected = t.synchronous
	}
	return max(wanted-connected, 0)
}

// checkTarget checks that a change can be committed, and a new login made.
func (r *report) checkTarget(admin administrator, at target) {
	database := preflight.Name(admin.database)
	r.Expect(at.open, "database.allow_connections", preflight.Error, preflight.SQL(preflight.Say("ALTER DATABASE %s ALLOW_CONNECTIONS true", database)),
		"database %q accepts no connections", admin.database)
	r.Expect(at.limit != 0, "database.allow_connections", preflight.Error, preflight.SQL(preflight.Say("ALTER DATABASE %s CONNECTION LIMIT -1", database)),
		"database %q has a connection limit of 0", admin.database)
	missing := at.unconfirmed()
	r.Expect(missing == 0, "database.synchronous_standby", preflight.Error, set(admin, preflight.Words("synchronous_commit = local")),
		"a COMMIT waits for standbys (synchronous_standby_names is %q), of which %d are not connected: start them, or let the administrator commit without them; a new password may then be lost when a standby takes over", at.standbys, missing)
}
