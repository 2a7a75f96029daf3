package database

import (
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
)

// fault is one thing that is not as it should be, and what is found of it.
type fault struct {
	name, check string
	severity    preflight.Severity
	// spoil makes the fault, as the superuser in the application's database. In it,
	// {a} and {b} are the users, {owner} the role that both are members of, {admin} the
	// administrator, {db} the database and {x} a name that nothing has.
	spoil string
	// configure changes how the users are managed.
	configure func(b *bench, c *Config)
	// from and before bound the major versions that have the fault; 0 is no bound.
	from, before int
	// differs says that versions differ in how the fault is found or mended.
	differs bool
	// sessions of {a} are open.
	sessions int
}

// faults is every check that psql can mend what it finds.
var faults = []fault{
	{name: "user missing", check: "database.user", severity: preflight.Error, spoil: `DROP OWNED BY {b}; DROP ROLE {b}`},
	{name: "no login", check: "database.login", severity: preflight.Error, spoil: `ALTER ROLE {b} NOLOGIN`},
	{name: "no CONNECT", check: "database.connect", severity: preflight.Error, spoil: `REVOKE CONNECT ON DATABASE {db} FROM {b}, {owner}`},
	{name: "limit of 0", check: "database.connection_limit", severity: preflight.Error, spoil: `ALTER ROLE {b} CONNECTION LIMIT 0`},
	{name: "limit used up", check: "database.connection_limit", severity: preflight.Error, spoil: `ALTER ROLE {a} CONNECTION LIMIT 2`, sessions: 2},
	{name: "limits differ", check: "database.connection_limits", severity: preflight.Warning, spoil: `ALTER ROLE {a} CONNECTION LIMIT 20; ALTER ROLE {b} CONNECTION LIMIT 5`},
	{name: "expired", check: "database.valid_until", severity: preflight.Error, spoil: `ALTER ROLE {a} VALID UNTIL '2020-01-01'`},
	{name: "expired for ever", check: "database.valid_until", severity: preflight.Error, spoil: `ALTER ROLE {a} VALID UNTIL '-infinity'`},
	{name: "expires before the rotation after the next", check: "database.valid_until", severity: preflight.Warning, spoil: `ALTER ROLE {b} VALID UNTIL 'tomorrow'`},
	{name: "admin expires", check: "database.admin_valid_until", severity: preflight.Warning, spoil: `ALTER ROLE {admin} VALID UNTIL 'tomorrow'`},
	{name: "admin may connect too rarely", check: "database.admin_connections", severity: preflight.Warning, spoil: `ALTER ROLE {admin} CONNECTION LIMIT 4`},
	{name: "admin without CREATEROLE", check: "database.admin_createrole", severity: preflight.Error, spoil: `ALTER ROLE {admin} NOCREATEROLE`},
	{name: "nothing tells whose it is", check: "database.managed_by", severity: preflight.Warning, spoil: `COMMENT ON ROLE {b} IS NULL; ALTER ROLE {admin} NOCREATEROLE`, configure: func(_ *bench, c *Config) {
		c.RotationStatements = []string{"SELECT public.set_password('{{username}}', '{{password}}')"}
	}},
	{name: "admin without ADMIN OPTION", check: "database.admin_option", severity: preflight.Error, spoil: `REVOKE ADMIN OPTION FOR {b} FROM {admin}`, from: 16},
	{name: "not a member", differs: true, check: "database.memberships", severity: preflight.Error, spoil: `CREATE ROLE {x}; GRANT {x} TO {a}`},
	{name: "the other is not a member", check: "database.memberships", severity: preflight.Error, spoil: `CREATE ROLE {x}; GRANT {x} TO {b}`},
	{name: "member by other options", check: "database.membership_options", severity: preflight.Warning, spoil: `GRANT {owner} TO {b} WITH INHERIT FALSE, SET FALSE`, from: 16},
	{name: "no owner", check: "database.owner", severity: preflight.Warning, spoil: `REVOKE {owner} FROM {a}, {b}`},
	{name: "owns a table", check: "database.owned_objects", severity: preflight.Warning, spoil: `CREATE TABLE {x} (n int); ALTER TABLE {x} OWNER TO {a}`},
	{name: "owns the database", check: "database.owned_objects", severity: preflight.Warning, spoil: `ALTER DATABASE {db} OWNER TO {b}`},
	{name: "creates for itself", check: "database.acts_as_owner", severity: preflight.Warning, spoil: `ALTER ROLE {b} RESET role`},
	{name: "attributes of one", check: "database.attributes", severity: preflight.Warning, spoil: `ALTER ROLE {a} BYPASSRLS CREATEDB`},
	{name: "attributes of the other", check: "database.attributes", severity: preflight.Warning, spoil: `ALTER ROLE {b} NOINHERIT BYPASSRLS`},
	{name: "search_path", differs: true, check: "database.settings", severity: preflight.Warning, spoil: `ALTER ROLE {a} SET search_path = public, "it''s", '$user'`},
	{name: "settings of one", check: "database.settings", severity: preflight.Warning, spoil: `ALTER ROLE {a} SET my.key = E'a hidden \\ ''value'''; ALTER ROLE {a} IN DATABASE {db} SET statement_timeout = '7s'`},
	{name: "settings of the other", check: "database.settings", severity: preflight.Warning, spoil: `ALTER ROLE {b} SET statement_timeout = 0; ALTER ROLE {b} IN DATABASE {db} SET work_mem = '5MB'`},
	{name: "privileges on a table", check: "database.grants", severity: preflight.Warning, spoil: `CREATE TABLE {x} (n int, m int); GRANT SELECT, INSERT ON {x} TO {a}; GRANT SELECT ON {x} TO {b} WITH GRANT OPTION`},
	{name: "privileges on a column", check: "database.grants", severity: preflight.Warning, spoil: `CREATE TABLE {x} (n int, "M" int); GRANT UPDATE ("M") ON {x} TO {b}`},
	{name: "privileges on much else", differs: true, check: "database.grants", severity: preflight.Warning, spoil: `
		CREATE SCHEMA "S {x}"; GRANT USAGE ON SCHEMA "S {x}" TO {a}; CREATE SEQUENCE "S {x}".s; GRANT USAGE ON SEQUENCE "S {x}".s TO {a};
		CREATE FUNCTION "S {x}".f(integer, text) RETURNS int LANGUAGE sql AS 'SELECT 1'; GRANT EXECUTE ON FUNCTION "S {x}".f(integer, text) TO {b};
		CREATE PROCEDURE {x}() LANGUAGE sql AS 'SELECT 1'; GRANT EXECUTE ON PROCEDURE {x}() TO {b}; GRANT TEMPORARY ON DATABASE {db} TO {a};
		CREATE FOREIGN DATA WRAPPER {x}; GRANT USAGE ON FOREIGN DATA WRAPPER {x} TO {a};
		CREATE SERVER {x} FOREIGN DATA WRAPPER {x}; GRANT USAGE ON FOREIGN SERVER {x} TO {b}; CREATE TYPE {x} AS ENUM ('a'); GRANT USAGE ON TYPE {x} TO {a}; SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO {b}`},
	{name: "default privileges on what others create", check: "database.grants", severity: preflight.Warning, spoil: `
		ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {a}; ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO {b}`},
	{name: "default privileges on what one creates", differs: true, check: "database.grants", severity: preflight.Warning, spoil: `
		ALTER DEFAULT PRIVILEGES FOR ROLE {a} GRANT SELECT ON TABLES TO {owner}; ALTER DEFAULT PRIVILEGES FOR ROLE {b} GRANT USAGE ON SEQUENCES TO PUBLIC`},
	{name: "may not end sessions", differs: true, check: "database.on_overlap_end", severity: preflight.Error, configure: terminating},
	{name: "may not end sessions, and does not inherit", check: "database.on_overlap_end", severity: preflight.Error, spoil: `ALTER ROLE {admin} NOINHERIT`, configure: terminating, before: 16},
	{name: "may not see sessions", differs: true, check: "database.on_overlap_end", severity: preflight.Error, configure: func(_ *bench, c *Config) {
		c.OnOverlapEnd, c.Usernames = "wait", c.Usernames[:1]
	}},
	{name: "limit of the database", check: "database.database_limit", severity: preflight.Warning, spoil: `ALTER DATABASE {db} CONNECTION LIMIT 4`, sessions: 3},
	{name: "logged", check: "database.logging", severity: preflight.Warning, spoil: `ALTER ROLE {admin} SET log_min_duration_statement = 0; ALTER ROLE {admin} SET log_statement = ddl`, configure: inClearText},
}

func terminating(_ *bench, c *Config) { c.OnOverlapEnd = "terminate" }

func inClearText(b *bench, _ *Config) {
	b.Connection.Settings.PasswordAuthentication = postgres.AuthenticatePassword
}
