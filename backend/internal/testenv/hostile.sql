-- hostile.sql is what the owner of a database may put into it: for everything in
-- pg_catalog that a statement could mean, something of the same name that tells of
-- being used. {schemas} are where, {admin} is who must not use it.

-- The owner may put extensions that PostgreSQL trusts even into pg_catalog.
DO $$
DECLARE
	extension text;
BEGIN
	FOR extension IN SELECT DISTINCT name FROM pg_catalog.pg_available_extension_versions WHERE trusted LOOP
		BEGIN
			EXECUTE pg_catalog.format('CREATE EXTENSION IF NOT EXISTS %I SCHEMA pg_catalog', extension);
		EXCEPTION WHEN OTHERS THEN
			NULL; -- not all work there, or are there
		END;
	END LOOP;
END $$;

CREATE SCHEMA evil;
CREATE SCHEMA IF NOT EXISTS {admin};
GRANT USAGE ON SCHEMA evil, {admin} TO PUBLIC;
CREATE SEQUENCE evil.calls;
GRANT ALL ON SEQUENCE evil.calls TO PUBLIC;

-- No rollback takes back a sequence, nor a line of the log, which also a transaction
-- that is read only may write.
CREATE FUNCTION evil.called(what text) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
	RAISE LOG 'shadow of %', what;
	IF session_user = {admin_literal} AND current_setting('transaction_read_only') = 'off' THEN
		RETURN nextval('evil.calls');
	END IF;
	RETURN 0;
END $$;

-- What takes these types is a better match, for some arguments, than what is shadowed.
CREATE FUNCTION evil.narrow(wide oid, way int) RETURNS oid LANGUAGE sql SET search_path = pg_catalog AS $$
	SELECT CASE WHEN way = 0 THEN CASE WHEN wide = '"any"'::regtype THEN 'anyelement'::regtype ELSE wide END
		WHEN wide = 'int8'::regtype THEN 'int4'::regtype
		WHEN wide = 'text'::regtype THEN 'name'::regtype
		WHEN wide IN ('"any"'::regtype, 'anyelement'::regtype, 'anynonarray'::regtype, 'anycompatible'::regtype) THEN CASE way WHEN 1 THEN 'text'::regtype ELSE 'name'::regtype END
		WHEN wide IN ('anyarray'::regtype, 'anycompatiblearray'::regtype) THEN CASE way WHEN 1 THEN 'text[]'::regtype ELSE 'name[]'::regtype END
		ELSE wide END
$$;

CREATE FUNCTION evil.types(wide oidvector, way int, variadic_any boolean, more int) RETURNS text LANGUAGE sql SET search_path = pg_catalog AS $$
	SELECT coalesce(string_agg(format_type(type, NULL), ', ' ORDER BY place), '') FROM (
		SELECT evil.narrow(type, way) AS type, place FROM unnest(wide) WITH ORDINALITY t (type, place)
			WHERE NOT (variadic_any AND place = cardinality(wide::oid[]))
		UNION ALL SELECT CASE way WHEN 2 THEN 'name'::regtype ELSE 'text'::regtype END, 1000 + i FROM generate_series(1, more) i
	) all_types
$$;

CREATE FUNCTION evil.shadow(place text) RETURNS int LANGUAGE plpgsql SET search_path = pg_catalog SET check_function_bodies = off AS $$
DECLARE
	f record; made int := 0; types text; body text; result text;
BEGIN
	FOR f IN
		SELECT p.oid, p.proname, p.prokind, p.proretset, p.prorettype, p.proargtypes, p.proargmodes, p.provariadic = '"any"'::regtype AS any_number, way, more
		FROM pg_proc p, generate_series(0, 2) way, generate_series(0, 4) more
		WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a')
			AND NOT '{internal,cstring}'::regtype[]::oid[] && p.proargtypes::oid[] AND p.prorettype NOT IN ('internal'::regtype, 'trigger'::regtype, 'cstring'::regtype)
			AND (more = 0 OR p.provariadic = '"any"'::regtype)
			AND (way = 0 OR more > 0 OR p.proargtypes::oid[] && ARRAY['int8', 'text', '"any"', 'anyelement', 'anynonarray', 'anyarray', 'anycompatible', 'anycompatiblearray']::regtype[]::oid[])
	LOOP
		types := evil.types(f.proargtypes, f.way, f.any_number, f.more);
		result := format_type(CASE f.way WHEN 0 THEN f.prorettype ELSE evil.narrow(f.prorettype, f.way) END, NULL);
		body := format('BEGIN PERFORM evil.called(%L); RETURN %s; END', f.proname, CASE WHEN f.proretset OR f.prorettype = 'void'::regtype THEN '' ELSE 'NULL' END);
		BEGIN
			IF f.prokind = 'a' THEN
				EXECUTE format('CREATE FUNCTION %I.%I(%s) RETURNS bigint LANGUAGE plpgsql AS %L', place, 'step_' || made, concat_ws(', ', 'bigint', nullif(types, '')), body);
				EXECUTE format('CREATE AGGREGATE %I.%I(%s) (SFUNC = %I.%I, STYPE = bigint)', place, f.proname, CASE types WHEN '' THEN '*' ELSE types END, place, 'step_' || made);
			ELSIF f.proargmodes IS NOT NULL AND NOT f.any_number THEN
				EXECUTE format('CREATE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', place, f.proname, pg_get_function_arguments(f.oid), pg_get_function_result(f.oid), replace(body, 'NULL', ''));
			ELSE
				EXECUTE format('CREATE FUNCTION %I.%I(%s) RETURNS %s%s LANGUAGE plpgsql AS %L', place, f.proname, types, CASE WHEN f.proretset THEN 'SETOF ' END, result, body);
			END IF;
			made := made + 1;
		EXCEPTION WHEN OTHERS THEN
			NULL; -- there is one already, or no language but C can have it
		END;
	END LOOP;
	FOR f IN
		SELECT oprname, oprkind, evil.narrow(oprleft, l) AS oprleft, evil.narrow(oprright, r) AS oprright, evil.narrow(oprresult, greatest(l, r)) AS oprresult
		FROM pg_operator, generate_series(0, 2) l, generate_series(0, 2) r WHERE oprnamespace = 'pg_catalog'::regnamespace
			AND (l = 0 OR oprleft <> evil.narrow(oprleft, l)) AND (r = 0 OR oprright <> evil.narrow(oprright, r))
	LOOP
		types := concat_ws(', ', CASE f.oprkind WHEN 'b' THEN format_type(f.oprleft, NULL) END, format_type(f.oprright, NULL));
		BEGIN
			EXECUTE format('CREATE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', place, 'operator_' || made, types, format_type(f.oprresult, NULL),
				format('BEGIN PERFORM evil.called(%L); RETURN NULL; END', 'operator ' || f.oprname));
			EXECUTE format('CREATE OPERATOR %I.%s (%sRIGHTARG = %s, FUNCTION = %I.%I)', place, f.oprname,
				CASE f.oprkind WHEN 'b' THEN format('LEFTARG = %s, ', format_type(f.oprleft, NULL)) END, format_type(f.oprright, NULL), place, 'operator_' || made);
			made := made + 1;
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
	END LOOP;
	FOR f IN SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b' AND typcategory <> 'A' LOOP
		EXECUTE format('CREATE DOMAIN %I.%I AS pg_catalog.%I CHECK (evil.called(%L) IS NOT NULL)', place, f.typname, f.typname, 'type ' || f.typname);
		made := made + 1;
	END LOOP;
	FOR f IN SELECT relname FROM pg_class c WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v') -- No view can have columns of these.
		AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND atttypid IN ('anyarray'::regtype, 'pg_statistic[]'::regtype))
	LOOP
		EXECUTE format('CREATE VIEW %I.%I AS SELECT * FROM pg_catalog.%I WHERE evil.called(%L) IS NOT NULL', place, f.relname, f.relname, 'relation ' || f.relname);
		EXECUTE format('GRANT SELECT ON %I.%I TO PUBLIC', place, f.relname);
		made := made + 1;
	END LOOP;
	RETURN made;
END $$;
