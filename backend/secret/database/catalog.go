package database

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

// administrator is what PostgreSQL says about the user that the engine is.
type administrator struct {
	name       string
	version    int // server_version_num, for example 160004
	superuser  bool
	createRole bool
	// database is the one that the engine and the application are connected to.
	database string
}

// role is what PostgreSQL says about a user that the engine manages.
type role struct {
	name  string
	found bool
	oid   uint32

	login, superuser, replication bool
	// validUntil is when logins end, by the server's clock; nil if they don't.
	validUntil *time.Time
	// now is that clock.
	now time.Time
	// limit is the connection limit, -1 for none; sessions is how many there are.
	limit, sessions int
	// connects and creates say that the role may connect to the database, and create
	// something in one of its schemas.
	connects, creates bool
	// adminOption says that the administrator holds ADMIN OPTION on the role.
	adminOption bool
	// owned are the databases in which the role owns objects itself, and ownedObjects
	// how many in each; what belongs to no database counts to the one connected to.
	owned        []string
	ownedObjects []int
	// memberOf, attributes and settings are what two alternating users must share;
	// memberships is memberOf with the options that are there from PostgreSQL 16 on.
	memberOf, memberships, attributes, settings []string
}

// endsWithin reports whether logins end in that time from now.
func (r role) endsWithin(left time.Duration) bool {
	return r.validUntil != nil && !r.validUntil.After(r.now.Add(left))
}

// adminColumns are the columns of an administrator, of pg_roles a.
const adminColumns = `a.rolname::text, pg_catalog.current_setting('server_version_num')::int, a.rolsuper, a.rolcreaterole, pg_catalog.current_database()::text`

// columns are where adminColumns go.
func (a *administrator) columns() []any {
	return []any{&a.name, &a.version, &a.superuser, &a.createRole, &a.database}
}

// loginColumns are the columns of pg_roles r that say whether a user can be given a
// password and log in with it. The function costs a third of pg_stat_activity, which
// asks it and looks up names.
const loginColumns = `r.oid, r.rolcanlogin, r.rolsuper, r.rolreplication,
		CASE WHEN r.rolvaliduntil < 'infinity' THEN greatest(r.rolvaliduntil, 'epoch') END, pg_catalog.now(), r.rolconnlimit,
		(SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_get_activity(NULL) s WHERE s.usesysid = r.oid AND coalesce(s.backend_type, '') <> 'parallel worker'),
		pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT'),
		pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER WITH ADMIN OPTION')`

// logins are where loginColumns go.
func (r *role) logins() []any {
	return []any{&r.oid, &r.login, &r.superuser, &r.replication, &r.validUntil, &r.now, &r.limit, &r.sessions, &r.connects, &r.adminOption}
}

func inspectAdmin(ctx context.Context, conn *pgx.Conn) (administrator, error) {
	var a administrator
	err := postgres.QueryRow(ctx, conn, `
		SELECT `+adminColumns+` FROM pg_catalog.pg_roles a WHERE a.rolname = current_user`, nil, a.columns()...)
	if err != nil {
		return a, fmt.Errorf("inspect administrator: %w", err)
	}
	return a, nil
}

// aboutRole reads only catalogs that every user may read. The options of memberships
// are read through JSON because before PostgreSQL 16 there are none.
const aboutRole = `
	WITH self AS (SELECT * FROM pg_catalog.pg_roles WHERE rolname = $1),
	owned AS (
		SELECT coalesce(b.datname, pg_catalog.current_database())::text AS place, pg_catalog.count(*)::int AS objects
		FROM self JOIN pg_catalog.pg_shdepend d ON d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = self.oid
			LEFT JOIN pg_catalog.pg_database b ON b.oid = d.dbid
		WHERE d.deptype = 'o' GROUP BY 1),
	member AS (
		SELECT g.rolname::text AS name, pg_catalog.format('%I inherit=%s set=%s', g.rolname,
			pg_catalog.bool_or(coalesce(pg_catalog.to_jsonb(m) ->> 'inherit_option', 'true')::bool),
			pg_catalog.bool_or(coalesce(pg_catalog.to_jsonb(m) ->> 'set_option', 'true')::bool)) AS described
		FROM self JOIN pg_catalog.pg_auth_members m ON m.member = self.oid
			JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
		GROUP BY g.rolname)
	SELECT ` + loginColumns + `,
		EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
			AND pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE')),
		ARRAY(SELECT place FROM owned ORDER BY place), ARRAY(SELECT objects FROM owned ORDER BY place),
		ARRAY(SELECT name FROM member ORDER BY name), ARRAY(SELECT described FROM member ORDER BY name),
		pg_catalog.array_remove(ARRAY[
			CASE WHEN r.rolinherit THEN 'INHERIT' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL),
		ARRAY(SELECT DISTINCT c FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c
			WHERE s.setrole = r.oid AND s.setdatabase IN (0,
				(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())) ORDER BY 1)
	FROM self r`

func inspectRole(ctx context.Context, conn *pgx.Conn, name string) (role, error) {
	r := role{name: name}
	err := postgres.QueryRow(ctx, conn, aboutRole, []any{name}, append(r.logins(), &r.creates, &r.owned, &r.ownedObjects,
		&r.memberOf, &r.memberships, &r.attributes, &r.settings)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("inspect user %q: %w", name, err)
	}
	r.found = true
	return r, nil
}

// missingGrants are the privileges that the role $1 was granted by name and $2 was
// not, in this database, each as the statement that grants it to $3; among them the
// default privileges on what others create, and those on what the roles create. An
// object whose name has control characters is left out: it might look like more than
// one statement.
const missingGrants = `
	WITH defaults AS (
		SELECT *, coalesce(' IN SCHEMA ' || nullif(defaclnamespace, 0::oid)::regnamespace, '') AS place,
			CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS kind
		FROM pg_catalog.pg_default_acl),
	acls (object, acl) AS (
		SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || oid::regclass, relacl FROM pg_catalog.pg_class WHERE relacl IS NOT NULL
		UNION ALL SELECT 'SCHEMA ' || oid::regnamespace, nspacl FROM pg_catalog.pg_namespace
		UNION ALL SELECT 'ROUTINE ' || oid::regprocedure, proacl FROM pg_catalog.pg_proc WHERE proacl IS NOT NULL
		UNION ALL SELECT 'TYPE ' || oid::regtype, typacl FROM pg_catalog.pg_type WHERE typacl IS NOT NULL
		UNION ALL SELECT 'LANGUAGE ' || pg_catalog.quote_ident(lanname), lanacl FROM pg_catalog.pg_language
		UNION ALL SELECT 'FOREIGN SERVER ' || pg_catalog.quote_ident(srvname), srvacl FROM pg_catalog.pg_foreign_server
		UNION ALL SELECT 'FOREIGN DATA WRAPPER ' || pg_catalog.quote_ident(fdwname), fdwacl FROM pg_catalog.pg_foreign_data_wrapper
		UNION ALL SELECT 'TABLESPACE ' || pg_catalog.quote_ident(spcname), spcacl FROM pg_catalog.pg_tablespace
		UNION ALL SELECT 'LARGE OBJECT ' || oid, lomacl FROM pg_catalog.pg_largeobject_metadata
		UNION ALL SELECT 'DATABASE ' || pg_catalog.quote_ident(datname), datacl FROM pg_catalog.pg_database),
	granted (role, before, after) AS (
		SELECT e.grantee, pg_catalog.format('GRANT %s ON %s TO ', e.privilege_type, object), CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
		FROM acls, pg_catalog.aclexplode(acl) e
		UNION ALL
		SELECT e.grantee, pg_catalog.format('GRANT %s (%I) ON TABLE %s TO ', e.privilege_type, attname, attrelid::regclass), CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
		FROM pg_catalog.pg_attribute, pg_catalog.aclexplode(attacl) e
		UNION ALL
		SELECT e.grantee, pg_catalog.format('ALTER DEFAULT PRIVILEGES FOR ROLE %s%s GRANT %s ON %s TO ', defaclrole::regrole, place, e.privilege_type, kind), ''
		FROM defaults, pg_catalog.aclexplode(defaclacl) e WHERE defaclrole NOT IN ($1::oid, $2::oid)
		UNION ALL
		SELECT defaclrole, 'ALTER DEFAULT PRIVILEGES FOR ROLE ', pg_catalog.format('%s GRANT %s ON %s TO %s', place, e.privilege_type, kind,
			CASE WHEN e.grantee = 0 THEN 'PUBLIC' ELSE e.grantee::regrole::text END)
		FROM defaults, pg_catalog.aclexplode(defaclacl) e WHERE e.grantee NOT IN ($1::oid, $2::oid))
	SELECT coalesce(pg_catalog.array_agg(before || $3::text || after || ';' ORDER BY before, after), '{}') FROM (
		SELECT before, after FROM granted WHERE role = $1::oid
		EXCEPT SELECT before, after FROM granted WHERE role = $2::oid) missing
	WHERE before || after !~ '[[:cntrl:]]'`

// grantsMissing returns the statements that grant to the role lacks what has has.
func grantsMissing(ctx context.Context, conn *pgx.Conn, has, lacks role) (statements []string, err error) {
	if err = postgres.QueryRow(ctx, conn, missingGrants, []any{has.oid, lacks.oid, postgres.QuoteName(lacks.name)}, &statements); err != nil {
		return nil, fmt.Errorf("compare privileges of %q and %q: %w", has.name, lacks.name, err)
	}
	return statements, nil
}

// grantsElsewhere are the other databases in which one of the roles was granted
// privileges on objects by name and the other was not.
func grantsElsewhere(ctx context.Context, conn *pgx.Conn, a, b role) (databases []string, err error) {
	err = postgres.QueryRow(ctx, conn, `
		WITH granted AS (
			SELECT d.refobjid, b.datname::text AS place, d.classid, d.objid, d.objsubid
			FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_database b ON b.oid = d.dbid
			WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'a'
				AND d.refobjid IN ($1::oid, $2::oid) AND b.datname <> pg_catalog.current_database())
		SELECT ARRAY(SELECT DISTINCT place FROM (
			SELECT place FROM granted GROUP BY place, classid, objid, objsubid HAVING pg_catalog.count(DISTINCT refobjid) = 1
		) apart ORDER BY place)`, []any{a.oid, b.oid}, &databases)
	if err != nil {
		err = fmt.Errorf("compare privileges of %q and %q in other databases: %w", a.name, b.name, err)
	}
	return databases, err
}

// instance is what PostgreSQL says about itself and the database.
type instance struct {
	standby bool
	// connections is max_connections, reserved how many of these only superusers and
	// members of pg_use_reserved_connections can have, and used how many there are.
	connections, reserved, used int
	// databaseLimit is that of the database, -1 for none.
	databaseLimit, databaseUsed int
	// settings are those in force for the administrator.
	settings map[string]string
	// seesVerifiers and seesRules say that the administrator may read the stored
	// passwords, and pg_hba.conf.
	seesVerifiers, seesRules bool
}

// inspected are the settings that are looked at.
var inspected = []string{
	"log_statement", "log_min_duration_statement", "log_min_error_statement", "pgaudit.log", "pg_stat_statements.track_utility",
}

// inspectInstance reads the settings from the function behind pg_settings, because every
// user may lock that view, as long as it pleases.
func inspectInstance(ctx context.Context, conn *pgx.Conn) (instance, error) {
	var i instance
	err := postgres.QueryRow(ctx, conn, `
		SELECT pg_catalog.pg_is_in_recovery(),
			pg_catalog.current_setting('max_connections')::int,
			pg_catalog.current_setting('superuser_reserved_connections')::int + coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0),
			(SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE datid IS NOT NULL),
			d.datconnlimit, (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE datid = d.oid),
			(SELECT coalesce(pg_catalog.jsonb_object_agg(name, setting), '{}') FROM pg_catalog.pg_show_all_settings() WHERE name = ANY ($1)),
			pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT'),
			pg_catalog.has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT') AND pg_catalog.has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')
		FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()`, []any{inspected},
		&i.standby, &i.connections, &i.reserved, &i.used, &i.databaseLimit, &i.databaseUsed, &i.settings, &i.seesVerifiers, &i.seesRules)
	if err != nil {
		return i, fmt.Errorf("inspect server: %w", err)
	}
	return i, nil
}

// weakVerifiers are the users whose stored password is no verifier of SCRAM.
const weakVerifiers = `FROM pg_catalog.pg_authid WHERE rolname = ANY ($1) AND rolpassword LIKE 'md5%'`

// openRules are the lines of pg_hba.conf that let one of the users in without a
// password, or ask for it in clear text.
const openRules = `FROM pg_catalog.pg_hba_file_rules WHERE auth_method IN ('trust', 'password') AND type <> 'local'
	AND database && ARRAY['all', pg_catalog.current_database()::text] AND user_name && ($1 || ARRAY['all'])`

// tables are those of this database but for what belongs to extensions.
const tables = `pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`

// unprivileged are the users who may read or write none of the tables that there are, by no
// role that they can act as.
const unprivileged = `FROM pg_catalog.pg_roles u WHERE u.rolname = ANY ($1) AND EXISTS (SELECT FROM ` + tables + `)
	AND NOT EXISTS (SELECT FROM (SELECT r.oid FROM pg_catalog.pg_roles r WHERE pg_catalog.pg_has_role(u.oid, r.oid, 'MEMBER') OFFSET 0) g CROSS JOIN ` + tables + `
			AND pg_catalog.has_schema_privilege(g.oid, n.oid, 'USAGE')
			AND (pg_catalog.has_table_privilege(g.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE') OR pg_catalog.has_any_column_privilege(g.oid, c.oid, 'SELECT, INSERT, UPDATE')))
	ORDER BY u.rolname`

// tell returns what is selected from one of these rows, as texts.
func tell(ctx context.Context, conn *pgx.Conn, selected, rows string, users []string) (told []string, err error) {
	err = postgres.QueryRow(ctx, conn, "SELECT ARRAY(SELECT "+selected+" "+strings.ReplaceAll(rows, "$1", "$1::text[]")+")", []any{users}, &told)
	return told, err
}
