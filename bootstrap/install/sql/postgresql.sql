-- postgresql.sql prepares a PostgreSQL (14 to 18) for the engine:
--
--   admin       the user the engine logs in as. No superuser; it may change the
--               passwords of the users below and read nothing of the application
--   owner       a role without LOGIN that owns the application's objects
--   user_a, _b  two users the application logs in as, in turn. Whatever one of
--               them creates belongs to owner, so the other can use it as well
--
-- Run it with psql, as a superuser, in the application's database:
--
--   psql -q -d orders -v admin=smvm_admin -v owner=orders_owner \
--        -v user_a=orders_a -v user_b=orders_b -f bootstrap/install/sql/postgresql.sql
--
-- Every name above has the default shown here, schema is public by default.
-- Running it again changes nothing. On a hosted PostgreSQL, where nobody is a
-- superuser, run it as the user that the provider calls the administrator.
--
-- There is no password in here. psql asks for the first one of the admin by
-- \password, which sends the server a SCRAM verifier only, so that the password
-- is in no command line, no shell history and no log of the server. Without a
-- terminal, psql reads it from its standard input, twice. The two users get
-- theirs from the engine.

\set ON_ERROR_STOP on
\if :{?admin} \else \set admin smvm_admin \endif
\if :{?owner} \else \set owner orders_owner \endif
\if :{?user_a} \else \set user_a orders_a \endif
\if :{?user_b} \else \set user_b orders_b \endif
\if :{?schema} \else \set schema public \endif
-- Whoever owns the database may have made functions and operators of these names.
SET search_path = pg_catalog, pg_temp;
SET client_min_messages = warning;
-- Also where the server's default is md5, \password has to make SCRAM.
SET password_encryption = 'scram-sha-256';

SELECT count(DISTINCT name) < 4 AS names_are_equal FROM (VALUES (:'admin'), (:'owner'), (:'user_a'), (:'user_b')) AS given (name) \gset
\if :names_are_equal
DO $$ BEGIN
	RAISE EXCEPTION 'admin, owner, user_a and user_b are four different roles: two of the names are equal. Nothing was changed';
END $$;
\endif
SELECT count(*) = 0 AS admin_is_new FROM pg_catalog.pg_roles WHERE rolname = :'admin' \gset
SELECT current_setting('server_version_num')::int >= 160000 AS needs_admin_option \gset

BEGIN;

-- 1. The roles, those that do not exist yet.
SELECT format('CREATE ROLE %I %s', wanted.name, wanted.attributes)
FROM (VALUES (:'admin', 'LOGIN CREATEROLE'), (:'owner', 'NOLOGIN'), (:'user_a', 'LOGIN'), (:'user_b', 'LOGIN')) AS wanted (name, attributes)
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name) \gexec

-- 2. What the admin needs. CREATEROLE alone is enough up to PostgreSQL 15, where
-- it is also more than one would like: it covers every role that is no
-- superuser. From 16 on it covers only roles it holds ADMIN OPTION on, and these
-- grants give it that, without the right to act as one of them.
GRANT CONNECT ON DATABASE :"DBNAME" TO :"admin";
\if :needs_admin_option
GRANT :"user_a", :"user_b" TO :"admin" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;
\endif

-- 3. What both users have in common. SET role makes every session of theirs act
-- as owner, so that new tables, sequences and functions belong to it.
GRANT :"owner" TO :"user_a", :"user_b";
ALTER ROLE :"user_a" SET role = :'owner';
ALTER ROLE :"user_b" SET role = :'owner';

-- 4. What the application may do. CREATE on the schema is for applications that
-- create their own tables; without it, grant owner what the application needs:
--   GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO orders_owner;
--   GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO orders_owner;
-- Objects that an earlier user of the application owns go to owner by:
--   REASSIGN OWNED BY orders TO orders_owner;
GRANT CONNECT, TEMPORARY ON DATABASE :"DBNAME" TO :"owner", :"user_a", :"user_b";
GRANT USAGE, CREATE ON SCHEMA :"schema" TO :"owner";

COMMIT;

-- 5. The admin's first password, unless the admin is older than this run.
\if :admin_is_new
\password :"admin"
\endif
-- PostgreSQL takes an empty answer, and the end of the input, for no password at all. Only
-- a superuser can see that.
SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS sees_passwords \gset
\if :sees_passwords
SELECT rolpassword IS NULL AS has_no_password FROM pg_catalog.pg_authid WHERE rolname = :'admin' \gset
\if :has_no_password
DO $$ BEGIN
	RAISE EXCEPTION 'the admin has no password, so the engine cannot log in' USING HINT = 'Everything else is done. Set a password in psql: \password smvm_admin (or the name that you gave as admin)';
END $$;
\endif
\endif
