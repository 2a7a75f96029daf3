package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

var _ rotation.Drainer = (*driver)(nil)

const (
	// defaultDrainTimeout is how long sessions are waited for if nothing is said.
	defaultDrainTimeout = time.Hour
	maxDrainTimeout     = 24 * time.Hour
)

// OverlapEnd implements rotation.Drainer.
func (d *driver) OverlapEnd(s rotation.Secret) (rotation.OverlapEnd, time.Duration) {
	c, err := readConfig(s.Config)
	if err != nil {
		return rotation.RetireAtEnd, 0
	}
	return c.end(), c.drainTimeout()
}

func (c Config) end() rotation.OverlapEnd {
	if c.OnOverlapEnd == "" {
		return rotation.RetireAtEnd
	}
	return rotation.OverlapEnd(c.OnOverlapEnd)
}

func (c Config) drainTimeout() time.Duration {
	if c.DrainTimeout == 0 {
		return defaultDrainTimeout
	}
	return time.Duration(c.DrainTimeout) * time.Second
}

func (c Config) checkDrain() error {
	switch c.end() {
	case rotation.RetireAtEnd, rotation.WaitAtEnd, rotation.TerminateAtEnd:
	default:
		return rotation.Invalid("on_overlap_end", "%q is not known: use %s, %s or %s", c.OnOverlapEnd, rotation.RetireAtEnd, rotation.WaitAtEnd, rotation.TerminateAtEnd)
	}
	switch timeout := c.drainTimeout(); {
	case c.DrainTimeout != 0 && c.end() != rotation.WaitAtEnd:
		return rotation.Invalid("drain_timeout", "has no effect without on_overlap_end=%s: set that, or drain_timeout=0", rotation.WaitAtEnd)
	case timeout < time.Second || timeout > maxDrainTimeout:
		return rotation.Invalid("drain_timeout", "is %s; it must be from 1s to %s", rotation.Span(timeout), rotation.Span(maxDrainTimeout))
	}
	return nil
}

// old are the sessions of the user $1 that use a previous password: all of them, or
// those that began until $2, because the user is the current one as well and what
// began later has logged in with the current password.
const old = ` FROM pg_catalog.pg_stat_activity
	WHERE usename = $1 AND coalesce(backend_type, '') <> 'parallel worker' AND pid <> pg_catalog.pg_backend_pid()
		AND ($2::timestamptz IS NULL OR backend_start <= $2::timestamptz)`

// hidden are the sessions of which the administrator may not see when they began.
const hidden = `SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity
	WHERE usename = $1 AND $2::timestamptz IS NOT NULL AND backend_start IS NULL`

// Sessions implements rotation.Drainer.
func (d *driver) Sessions(ctx context.Context, s rotation.Secret) (int, error) {
	count := 0
	err := d.drained(ctx, s, func(conn *pgx.Conn, username string, until *time.Time) (err error) {
		count, err = countSessions(ctx, conn, username, until)
		return err
	})
	return count, err
}

// Terminate implements rotation.Drainer. The fence comes before what can't be rolled
// back: by the time another node has decided anything else, the server has hung up
// on this one.
func (d *driver) Terminate(ctx context.Context, s rotation.Secret, fence rotation.Fence) (int, error) {
	ended := 0
	err := d.drained(ctx, s, func(conn *pgx.Conn, username string, until *time.Time) (err error) {
		if ended, err = countSessions(ctx, conn, username, until); err != nil || ended == 0 {
			return err
		}
		if err := fence(ctx); err != nil {
			return err
		}
		return endSessions(ctx, conn, username, until)
	})
	if postgres.CodeOf(err) == postgres.CodeInsufficientPrivilege {
		return 0, d.explainDrain(ctx, s, err)
	}
	return ended, err
}

// drained runs work on the sessions that use the previous value of s: those of that
// user; until a time by the server's clock, if only some of them do.
func (d *driver) drained(ctx context.Context, s rotation.Secret, work func(conn *pgx.Conn, username string, until *time.Time) error) error {
	if s.Previous == nil || s.Current == nil {
		return errors.New("there is no previous value")
	}
	c, l, err := d.parts(s, s.Previous.Material)
	if err != nil {
		return err
	}
	return d.postgres.Administer(ctx, c.Connection, postgres.Rollback, func(conn *pgx.Conn, _ postgres.Server) error {
		if s.Current.Material["username"] != l.Username {
			return work(conn, l.Username, nil)
		}
		until, err := d.byServer(ctx, conn, s.CutOver().Add(cutOverPrecision))
		if err != nil {
			return err
		}
		return work(conn, l.Username, &until)
	})
}

// cutOverPrecision is the unit in which the time of a cut-over is kept. A session
// that began within it counts as one that logged in with the previous password.
const cutOverPrecision = time.Second

// byServer is a time that has passed, by the clock of the server, or a moment before
// that: the server is asked first, so that the way to it makes no session older.
func (d *driver) byServer(ctx context.Context, conn *pgx.Conn, at time.Time) (time.Time, error) {
	var now time.Time
	if err := postgres.QueryRow(ctx, conn, "SELECT pg_catalog.clock_timestamp()", nil, &now); err != nil {
		return now, fmt.Errorf("ask for the time: %w", err)
	}
	return now.Add(-d.postgres.Now().Sub(at)), nil
}

func countSessions(ctx context.Context, conn *pgx.Conn, username string, until *time.Time) (count int, err error) {
	if err := postgres.QueryRow(ctx, conn, hidden, []any{username, until}, &count); err != nil {
		return 0, fmt.Errorf("look at open sessions of %q: %w", username, err)
	}
	if count > 0 {
		return 0, fmt.Errorf("look at open sessions of %q: the administrator may not see when they began; make it a member of pg_read_all_stats", username)
	}
	if err := postgres.QueryRow(ctx, conn, "SELECT pg_catalog.count(*)"+old, []any{username, until}, &count); err != nil {
		return 0, fmt.Errorf("look at open sessions of %q: %w", username, err)
	}
	return count, nil
}

// endSessions tells all sessions to end, waits for each a moment, and makes sure
// that none is left.
func endSessions(ctx context.Context, conn *pgx.Conn, username string, until *time.Time) error {
	for _, end := range []string{"pg_catalog.pg_terminate_backend(pid)", "pg_catalog.pg_terminate_backend(pid, 1000::bigint)"} {
		var told int
		if err := postgres.QueryRow(ctx, conn, "SELECT pg_catalog.count("+end+")"+old, []any{username, until}, &told); err != nil {
			return fmt.Errorf("terminate sessions of %q: %w", username, err)
		}
		// What a transaction has seen of the sessions is what it goes on to see.
		if err := postgres.Execute(ctx, conn, "SELECT pg_catalog.pg_stat_clear_snapshot()"); err != nil {
			return fmt.Errorf("terminate sessions of %q: %w", username, err)
		}
	}
	left, err := countSessions(ctx, conn, username, until)
	if err == nil && left > 0 {
		err = fmt.Errorf("terminate sessions of %q: %d have not ended yet", username, left)
	}
	return err
}

// explainDrain adds to a refused statement what the administrator lacks.
func (d *driver) explainDrain(ctx context.Context, s rotation.Secret, cause error) error {
	c, err := readConfig(s.Config)
	if err != nil {
		return cause
	}
	var lacking error
	err = d.postgres.Administer(ctx, c.Connection, postgres.Rollback, func(conn *pgx.Conn, _ postgres.Server) error {
		lacking = mayDrain(ctx, conn, c)
		return nil
	})
	if err != nil || lacking == nil {
		return cause
	}
	return fmt.Errorf("%w: %w", cause, lacking)
}

// mayDrain checks that the administrator may do what on_overlap_end says about the
// sessions of the users. Its error says the statements to run.
func mayDrain(ctx context.Context, conn *pgx.Conn, c settings) error {
	admin, missing, err := lacksForDrain(ctx, conn, c)
	if err != nil || len(missing) == 0 {
		return err
	}
	return rotation.Invalid("on_overlap_end", "the administrator %q has no right to %s here%s", admin.name, c.needs(), preflight.SQL(missing...).Clause())
}

// lacksForDrain returns the administrator, and the statements that it lacks for what
// on_overlap_end says.
func lacksForDrain(ctx context.Context, conn *pgx.Conn, c settings) (admin administrator, missing []preflight.Statement, err error) {
	if admin, err = inspectAdmin(ctx, conn); err != nil || c.end() == rotation.RetireAtEnd {
		return admin, nil, err
	}
	var signals, sees, inherits bool
	err = postgres.QueryRow(ctx, conn, `
		SELECT pg_catalog.bool_and(pg_catalog.pg_has_role(current_user, oid, 'USAGE')) OR pg_catalog.pg_has_role(current_user, 'pg_signal_backend', 'USAGE'),
			pg_catalog.bool_and(pg_catalog.pg_has_role(current_user, oid, 'USAGE')) OR pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
			(SELECT rolinherit FROM pg_catalog.pg_roles WHERE rolname = current_user)
		FROM pg_catalog.pg_roles WHERE rolname = ANY ($1)`, []any{c.Usernames}, &signals, &sees, &inherits)
	if err != nil {
		return admin, nil, fmt.Errorf("inspect privileges over sessions: %w", err)
	}
	if c.end() == rotation.TerminateAtEnd && !signals {
		missing = append(missing, grant(admin, preflight.Words("pg_signal_backend")))
	}
	if c.RotationStrategy == SingleUser && !sees {
		missing = append(missing, grant(admin, preflight.Words("pg_read_all_stats")))
	}
	if len(missing) > 0 && admin.version < 160000 && !inherits {
		missing = append(missing, preflight.Say("ALTER ROLE %s INHERIT", preflight.Name(admin.name)))
	}
	return admin, missing, nil
}

// needs says what on_overlap_end asks of the administrator.
func (c settings) needs() string {
	if c.end() == rotation.TerminateAtEnd {
		return "end the sessions of others"
	}
	return "see when the sessions of others began"
}

// grant is the statement that makes the administrator a member of one of
// PostgreSQL's own roles.
func grant(admin administrator, role preflight.Piece) preflight.Statement {
	if admin.version >= 160000 {
		return preflight.Say("GRANT %s TO %s WITH INHERIT TRUE, SET FALSE", role, preflight.Name(admin.name))
	}
	return preflight.Say("GRANT %s TO %s", role, preflight.Name(admin.name))
}
