-- A trap on all that the owner of a database can make of the same name as something of
-- PostgreSQL's own. Each counts its calls by a sequence, which no rollback takes back.
CREATE SCHEMA trap;
CREATE SEQUENCE trap.calls;
GRANT USAGE ON SCHEMA trap TO PUBLIC;
GRANT ALL ON SEQUENCE trap.calls TO PUBLIC;
CREATE FUNCTION trap.spring() RETURNS boolean LANGUAGE sql AS $$ SELECT pg_catalog.nextval('trap.calls') OPERATOR(pg_catalog.>) 0 $$;
SET check_function_bodies = off;

DO $$
DECLARE one record;
BEGIN
	-- Functions whose arguments may be those of a function in plpgsql.
	FOR one IN
		SELECT p.proname, p.prorettype, p.proretset, args.list
		FROM pg_catalog.pg_proc p
			JOIN pg_catalog.pg_type r ON r.oid = p.prorettype
			CROSS JOIN LATERAL (SELECT coalesce(string_agg(format_type(t.oid, NULL), ', ' ORDER BY n), '') AS list,
				count(*) FILTER (WHERE t.typtype = 'p' AND t.typname !~ '^any.') = 0 AS possible
				FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, n) JOIN pg_catalog.pg_type t ON t.oid = a.type) AS args
		WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND args.possible
			AND (r.typtype <> 'p' OR r.typname ~ '^any.') AND p.proargmodes IS NULL
	LOOP
		EXECUTE format('CREATE FUNCTION trap.%I(%s) RETURNS %s %s LANGUAGE plpgsql AS ''BEGIN PERFORM trap.spring(); RETURN%s; END''',
			one.proname, one.list, CASE WHEN one.proretset THEN 'SETOF' END, format_type(one.prorettype, NULL), CASE WHEN NOT one.proretset THEN ' NULL' END);
	END LOOP;
	-- Better matches than those of any number of arguments.
	FOR i IN 2..7 LOOP
		EXECUTE format('CREATE FUNCTION trap.format(%s) RETURNS text LANGUAGE plpgsql AS ''BEGIN PERFORM trap.spring(); RETURN NULL; END''',
			array_to_string(array_fill('text'::text, ARRAY[i]), ', '));
	END LOOP;
	FOR one IN
		SELECT o.oprname, o.oprleft, format_type(o.oprleft, NULL) AS lefttype, format_type(o.oprright, NULL) AS righttype, p.proname
		FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
		WHERE EXISTS (SELECT FROM pg_catalog.pg_proc t WHERE t.pronamespace = 'trap'::regnamespace AND t.proname = p.proname AND t.proargtypes = p.proargtypes)
	LOOP
		EXECUTE format('CREATE OPERATOR trap.%s (%s RIGHTARG = %s, FUNCTION = trap.%I)',
			one.oprname, CASE WHEN one.oprleft <> 0 THEN format('LEFTARG = %s,', one.lefttype) END, one.righttype, one.proname);
	END LOOP;
	FOREACH one.proname IN ARRAY ARRAY['pg_roles', 'pg_authid', 'pg_auth_members', 'pg_database', 'pg_db_role_setting', 'pg_shdepend', 'pg_hba_file_rules', 'pg_class', 'pg_namespace', 'pg_settings'] LOOP
		EXECUTE format('CREATE VIEW trap.%I AS SELECT * FROM pg_catalog.%1$I WHERE trap.spring()', one.proname);
	END LOOP;
	FOREACH one.proname IN ARRAY ARRAY['text', 'name', 'oid', 'regclass', 'regrole', 'bool', 'int4', 'timestamptz'] LOOP
		EXECUTE format('CREATE DOMAIN trap.%I AS pg_catalog.%1$I CHECK (trap.spring())', one.proname);
	END LOOP;
END $$;
