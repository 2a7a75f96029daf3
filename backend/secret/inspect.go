package secret

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// administrator is what PostgreSQL says about the user that the engine is.
type administrator struct {
	name       string
	version    int // server_version_num, for example 160004
	superuser  bool
	createRole bool
}

// role is what PostgreSQL says about a user that the engine manages.
type role struct {
	name  string
	found bool
	oid   uint32

	login, superuser, replication bool
	// expired and expiring say that VALID UNTIL is past, or within seven days.
	expired, expiring bool
	// limit is the connection limit, -1 for none; sessions is how many there are.
	limit, sessions int
	// adminOption says that the administrator holds ADMIN OPTION on the role.
	adminOption bool
	// owned counts the objects in all databases that the role owns itself.
	owned int
	// memberOf, attributes and settings are what two alternating users must share.
	memberOf, attributes, settings []string
}

func inspectAdmin(ctx context.Context, conn *pgx.Conn) (administrator, error) {
	var a administrator
	err := queryRow(ctx, conn, `
		SELECT rolname::text, current_setting('server_version_num')::int, rolsuper, rolcreaterole
		FROM pg_catalog.pg_roles WHERE rolname = current_user`, nil,
		&a.name, &a.version, &a.superuser, &a.createRole)
	if err != nil {
		return a, fmt.Errorf("inspect administrator: %w", err)
	}
	return a, nil
}

// inspectRole reads only catalogs that every user may read.
func inspectRole(ctx context.Context, conn *pgx.Conn, name string) (role, error) {
	r := role{name: name}
	err := queryRow(ctx, conn, `
		SELECT r.oid, r.rolcanlogin, r.rolsuper, r.rolreplication,
			coalesce(r.rolvaliduntil <= now(), false),
			coalesce(r.rolvaliduntil <= now() + interval '7 days', false),
			r.rolconnlimit,
			(SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid),
			pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER WITH ADMIN OPTION'),
			(SELECT count(*) FROM pg_catalog.pg_shdepend d
				WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = r.oid AND d.deptype = 'o'),
			ARRAY(SELECT DISTINCT g.rolname::text FROM pg_catalog.pg_auth_members m
				JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid ORDER BY 1),
			array_remove(ARRAY[
				CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolinherit THEN 'INHERIT' END,
				CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
				CASE WHEN r.rolreplication THEN 'REPLICATION' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL),
			ARRAY(SELECT DISTINCT c FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) c
				WHERE s.setrole = r.oid AND s.setdatabase IN (0,
					(SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())) ORDER BY 1)
		FROM pg_catalog.pg_roles r WHERE r.rolname = $1`, []any{name},
		&r.oid, &r.login, &r.superuser, &r.replication, &r.expired, &r.expiring, &r.limit, &r.sessions,
		&r.adminOption, &r.owned, &r.memberOf, &r.attributes, &r.settings)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("inspect user %q: %w", name, err)
	}
	r.found = true
	return r, nil
}

// grantsApart counts the objects on which one of the roles was granted
// privileges by name and the other was not.
func grantsApart(ctx context.Context, conn *pgx.Conn, a, b role) (onlyA, onlyB int, err error) {
	const granted = `SELECT dbid, classid, objid, objsubid FROM pg_catalog.pg_shdepend
		WHERE refclassid = 'pg_catalog.pg_authid'::regclass AND deptype = 'a'
			AND classid <> 'pg_catalog.pg_auth_members'::regclass AND refobjid = `
	const apart = `SELECT (SELECT count(*) FROM (` + granted + `$1::oid EXCEPT ` + granted + `$2::oid) a),
		(SELECT count(*) FROM (` + granted + `$2::oid EXCEPT ` + granted + `$1::oid) b)`
	err = queryRow(ctx, conn, apart, []any{a.oid, b.oid}, &onlyA, &onlyB)
	if err != nil {
		err = fmt.Errorf("compare privileges of %q and %q: %w", a.name, b.name, err)
	}
	return onlyA, onlyB, err
}

// queryRow reads one row. It returns pgx.ErrNoRows itself when there is none.
func queryRow(ctx context.Context, conn *pgx.Conn, sql string, arguments []any, into ...any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := conn.QueryRow(ctx, sql, arguments...).Scan(into...)
	if errors.Is(err, pgx.ErrNoRows) {
		return pgx.ErrNoRows
	}
	return reduce(err)
}

// lacks returns what keeps the administrator from changing the password of r,
// each with the statement that somebody has to run.
func (a administrator) lacks(r role) (missing []string) {
	if a.superuser {
		return nil
	}
	admin, user := quoteName(a.name), quoteName(r.name)
	if r.superuser {
		missing = append(missing, fmt.Sprintf("%q is a superuser, whose password only a superuser may change; run: ALTER ROLE %s NOSUPERUSER;", r.name, user))
	}
	if r.replication && a.version < 160000 {
		missing = append(missing, fmt.Sprintf("%q has REPLICATION, so that before PostgreSQL 16 only a superuser may change its password; run: ALTER ROLE %s NOREPLICATION;", r.name, user))
	}
	if !a.createRole {
		missing = append(missing, fmt.Sprintf("the administrator %q may not change passwords of others; run: ALTER ROLE %s CREATEROLE;", a.name, admin))
	}
	if a.version >= 160000 && !r.adminOption {
		missing = append(missing, fmt.Sprintf("the administrator %q has no ADMIN OPTION on %q, which PostgreSQL 16 and later ask for; run: GRANT %s TO %s WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;", a.name, r.name, user, admin))
	}
	return missing
}
