-- auth.sql lets PgBouncer check the application's logins against PostgreSQL
-- itself (auth_query), so that it follows every rotation without being told.
--
-- Run it with psql, as a superuser, in each database behind PgBouncer:
--
--   psql -q -d orders -v owner=orders_owner -v bouncer=pgbouncer -f bootstrap/install/pgbouncer/auth.sql
--
-- psql asks for the password of a new user pgbouncer; it goes into userlist.txt.
-- That user learns the SCRAM verifiers of the owner's members, with which nobody
-- can log in, and of nobody else. Run it again after each upgrade of these files.

\set ON_ERROR_STOP on
\if :{?owner} \else \set owner orders_owner \endif
\if :{?bouncer} \else \set bouncer pgbouncer \endif
-- Whoever owns the database may have made functions and operators of these names, and a
-- schema of that name, in which it could replace the function below.
SET search_path = pg_catalog, pg_temp;
SET password_encryption = 'scram-sha-256';
SELECT count(*) > 0 AS is_foreign FROM pg_catalog.pg_namespace n
	JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE n.nspname = :'bouncer' AND NOT r.rolsuper \gset
\if :is_foreign
DO $$ BEGIN RAISE 'there is a schema of that name, and it belongs to no superuser: give another name as bouncer'; END $$;
\endif
SELECT count(*) = 0 AS bouncer_is_new FROM pg_catalog.pg_roles WHERE rolname = :'bouncer' \gset

BEGIN;
\if :bouncer_is_new
CREATE ROLE :"bouncer" LOGIN;
\endif
CREATE SCHEMA IF NOT EXISTS :"bouncer" AUTHORIZATION CURRENT_USER;
-- From PostgreSQL 16 on, the engine's administrator is a member of the users as well, but
-- may not act as them.
SELECT CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END AS acts \gset
-- A path without pg_temp begins with it: the caller's temporary tables would come first.
SELECT format($$
CREATE OR REPLACE FUNCTION %I.get_auth(name text) RETURNS TABLE (username text, verifier text)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$body$
	SELECT rolname::text, rolpassword
	FROM pg_catalog.pg_authid
	WHERE rolname = name AND rolcanlogin AND NOT rolsuper AND (rolvaliduntil IS NULL OR rolvaliduntil > now())
		AND pg_has_role(oid, %L, %L)
$body$ $$, :'bouncer', :'owner', :'acts') \gexec
REVOKE ALL ON FUNCTION :"bouncer".get_auth(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION :"bouncer".get_auth(text) TO :"bouncer";
GRANT USAGE ON SCHEMA :"bouncer" TO :"bouncer";
COMMIT;

\if :bouncer_is_new
\password :"bouncer"
\endif
