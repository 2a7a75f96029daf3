package postgres_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestBootstrapInHostileDatabase runs the scripts for superusers where the owner of the
// database has shadowed all that they could mean, and is there before them.
func TestBootstrapInHostileDatabase(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	owner, boss, bouncer := pgtest.Unique("owner"), pgtest.Unique("boss"), pgtest.Unique("bouncer")
	b.SQL("CREATE ROLE %s; CREATE ROLE %s SUPERUSER LOGIN PASSWORD 'boss'; CREATE ROLE %s LOGIN", owner, boss, bouncer)
	h := testenv.NewHostile(t, pgtest.Shared, boss, owner)
	h.SQL(`ALTER DATABASE ` + h.Database + ` SET search_path = evil, "$user", public, pg_catalog`)
	run := func(script string, args ...string) (string, error) {
		args = append([]string{"-X", "-q", "-f", filepath.Join("..", "..", "bootstrap", script), pgtest.Shared.DSN(boss, "boss", h.Database)}, args...)
		out, err := exec.CommandContext(t.Context(), filepath.Join(pgtest.Shared.BinDir, "psql"), args...).CombinedOutput()
		return string(out), err
	}
	h.Lured("boss", "SELECT count(*) = 0 FROM pg_catalog.pg_roles WHERE rolname = 'nobody'")
	if len(h.Calls()) == 0 {
		t.Fatal("nothing was used without protection")
	}
	for script, args := range map[string][]string{
		"install/sql/postgresql.sql": {"-v", "admin=" + b.Admin.Username, "-v", "owner=" + owner, "-v", "user_a=" + pgtest.Unique("a"), "-v", "user_b=" + pgtest.Unique("b")},
		"install/pgbouncer/auth.sql": {"-v", "owner=" + owner, "-v", "bouncer=" + bouncer},
	} {
		if out, err := run(script, args...); err != nil {
			t.Errorf("%s: %v: %s", script, err, out)
		}
		if calls := h.Calls(); len(calls) > 0 {
			t.Errorf("%s has run, as a superuser: %q", script, calls)
		}
	}
	if lured := luredByTemporary(t, bouncer, h.Database, b.Password(bouncer), bouncer+".get_auth('x')"); lured != "" {
		t.Errorf("what auth.sql leaves behind runs what its caller has made, as %s", lured)
	}
	taken := pgtest.Unique("taken")
	h.SQL("CREATE ROLE " + taken + " LOGIN; CREATE SCHEMA " + taken + " AUTHORIZATION " + owner)
	if out, err := run("install/pgbouncer/auth.sql", "-v", "owner="+owner, "-v", "bouncer="+taken); err == nil || !strings.Contains(out, "belongs to no superuser") {
		t.Errorf("a schema that the owner can put functions in was used: %v: %s", err, out)
	}
}

// luredByTemporary calls a function as a user who has made a temporary view in place of
// each relation of PostgreSQL's, and returns as whom one of them was read; "" if none was.
func luredByTemporary(t *testing.T, user, database, password, call string) (as string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.Shared.DSN(user, password, database))
	expect.OK(t, err)
	defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on it
	_, err = conn.Exec(t.Context(), `
		SET search_path = pg_catalog;
		CREATE FUNCTION pg_temp.lure() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('test.lured', current_user, false); RETURN true; END $$;
		GRANT EXECUTE ON FUNCTION pg_temp.lure() TO PUBLIC;
		DO $$
		DECLARE
			relation record; made int := 0;
		BEGIN
			FOR relation IN SELECT c.relname, string_agg(format('CASE WHEN pg_temp.lure() THEN NULL::%s END AS %I', format_type(a.atttypid, a.atttypmod), a.attname), ', ' ORDER BY a.attnum) AS columns
				FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
				WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v')
				GROUP BY c.relname HAVING NOT bool_or(a.atttypid IN ('anyarray'::regtype, 'pg_statistic[]'::regtype))
			LOOP
				EXECUTE format('CREATE VIEW pg_temp.%I AS SELECT %s', relation.relname, relation.columns);
				EXECUTE format('GRANT SELECT ON pg_temp.%I TO PUBLIC', relation.relname);
				made := made + 1;
			END LOOP;
			ASSERT made > 100;
		END $$`)
	expect.OK(t, err)
	_, err = conn.Exec(t.Context(), "SELECT * FROM "+call)
	expect.OK(t, err)
	expect.OK(t, conn.QueryRow(t.Context(), "SELECT coalesce(pg_catalog.current_setting('test.lured', true), '')").Scan(&as))
	return as
}

// TestDocumentsInHostileDatabase runs as a superuser what the documents tell one to run,
// where the owner of the database has shadowed all that it could mean.
func TestDocumentsInHostileDatabase(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	owner, boss := pgtest.Unique("owner"), pgtest.Unique("boss")
	users, legacy := b.Pair(pgtest.Unique("a"), pgtest.Unique("b")), b.User(pgtest.Unique("legacy"))
	b.SQL("CREATE ROLE %s; CREATE ROLE %s SUPERUSER LOGIN PASSWORD 'boss'; CREATE ROLE %s_owner", owner, boss, legacy)
	h := testenv.NewHostile(t, pgtest.Shared, boss, owner)
	h.SQL(`ALTER DATABASE ` + h.Database + ` SET search_path = evil, "$user", public, pg_catalog`)
	names := strings.NewReplacer("smvm_admin", b.Admin.Username, "orders_a", users[0], "orders_b", users[1], "legacy", legacy, "-d orders", "-d "+h.Database)
	found := 0
	for _, document := range []string{"docs/postgresql.md", "docs/applications.md", "docs/operations.md", "docs/procedure.md", "docs/security.md", "README.md", "bootstrap/RUNBOOK.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", document))
		expect.OK(t, err)
		for _, command := range lookups(string(text)) {
			found++
			cmd := exec.CommandContext(t.Context(), "bash", "-euc", names.Replace(command))
			cmd.Env = append(os.Environ(), "PATH="+pgtest.Shared.BinDir+":"+os.Getenv("PATH"), "PGHOST="+pgtest.Shared.Host, fmt.Sprint("PGPORT=", pgtest.Shared.Port),
				"PGUSER="+boss, "PGPASSWORD=boss", "PGDATABASE="+h.Database)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v: %s", document, command, err, out)
			}
			if calls := h.Calls(); len(calls) > 0 {
				t.Errorf("%s: a superuser who runs this also runs %q:\n%s", document, calls, command)
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d were found", found)
	}
	var plain bool
	conn, err := pgtest.Shared.Connect(t.Context(), h.Database, map[string]string{"search_path": "pg_catalog"})
	expect.OK(t, err)
	defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on it
	expect.OK(t, conn.QueryRow(t.Context(), "SELECT count(*) = 1 FROM pg_proc WHERE proname = 'set_orders_password' AND proargtypes = '25 25'").Scan(&plain))
	if !plain {
		t.Error("the parameters of the function in docs/postgresql.md are of types of the owner's")
	}
}

// lookups are the commands of a document in which PostgreSQL has to look up names: its
// blocks of SQL, and its calls of psql.
func lookups(document string) []string {
	var all []string
	for _, block := range regexp.MustCompile("(?ms)^ *```(sql|sh)\n(.*?)^ *```").FindAllStringSubmatch(document, -1) {
		if block[1] == "sql" {
			all = append(all, "psql -v ON_ERROR_STOP=1 <<'SQL'\n"+block[2]+"SQL\n")
			continue
		}
		// Quoted words may have several lines.
		all = append(all, regexp.MustCompile(`(?m)^ *psql (?:'[^']*'|"[^"]*"|\\\n|[^'"\n])*`).FindAllString(block[2], -1)...)
	}
	looks := regexp.MustCompile(`(?i)\bSELECT\b[^;]*\bFROM\b|\bFUNCTION\b[^;]*\bRETURNS\b`)
	return slices.DeleteFunc(all, func(command string) bool { return !looks.MatchString(command) })
}

// TestAuthQueryTellsOfUsersOnly asks auth.sql's function for the engine's administrator,
// who from PostgreSQL 16 on is a member of the users as well.
func TestAuthQueryTellsOfUsersOnly(t *testing.T) {
	for _, pg := range []*testenv.Postgres{pgtest.Shared, pgtest.OfMajor(t, 16)} {
		b := pgtest.NewBench(t, pg)
		owner, bouncer, a, z := pgtest.Unique("owner"), b.User(pgtest.Unique("bouncer")), pgtest.Unique("a"), pgtest.Unique("b")
		for _, script := range []string{"sql/postgresql.sql", "pgbouncer/auth.sql"} {
			out, err := exec.CommandContext(t.Context(), filepath.Join(pgtest.Shared.BinDir, "psql"), "-X", "-q", "-v", "owner="+owner,
				"-v", "admin="+b.Admin.Username, "-v", "user_a="+a, "-v", "user_b="+z, "-v", "bouncer="+bouncer,
				"-f", filepath.Join("..", "..", "bootstrap", "install", script), pg.SuperuserDSN()).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v: %s", script, err, out)
			}
		}
		conn := b.Open(bouncer)
		for user, want := range map[string]int{a: 1, z: 1, b.Admin.Username: 0, bouncer: 0, testenv.Superuser: 0} {
			var told int
			expect.OK(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+bouncer+".get_auth($1)", user).Scan(&told))
			if told != want {
				t.Errorf("PostgreSQL %d: of %s, %d verifiers are told, want %d", pg.Version, user, told, want)
			}
		}
	}
}

// TestBootstrapWithoutAPassword runs the script with nobody to answer its question, for which
// PostgreSQL leaves the administrator without a password, and says no more than a notice.
func TestBootstrapWithoutAPassword(t *testing.T) {
	admin := pgtest.Unique("new_admin")
	run := func(answers string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(pgtest.Shared.BinDir, "psql"), append([]string{"-X", "-q", pgtest.Shared.SuperuserDSN()}, args...)...)
		cmd.Stdin, cmd.SysProcAttr = strings.NewReader(answers), &syscall.SysProcAttr{Setsid: true} // psql asks the terminal, if there is one
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	script := []string{"-v", "admin=" + admin, "-v", "owner=" + pgtest.Unique("owner"), "-v", "user_a=" + pgtest.Unique("a"), "-v", "user_b=" + pgtest.Unique("b"), "-f", filepath.Join("..", "..", "bootstrap", "install", "sql", "postgresql.sql")}
	for range 2 { // also when only the question is left to be asked again
		if out, err := run("", script...); err == nil || !strings.Contains(out, "has no password") || !strings.Contains(out, `\password`) {
			t.Errorf("without an answer: %v: %s", err, out)
		}
	}
	if out, err := run("a-password-0123456789\na-password-0123456789\n", "-c", `\password `+admin); err != nil {
		t.Errorf("the password is not set: %v: %s", err, out)
	}
	if out, err := run("", script...); err != nil {
		t.Errorf("with a password: %v: %s", err, out)
	}
}

// TestBootstrapWithEqualNames gives the administrator the rights of an application's user.
func TestBootstrapWithEqualNames(t *testing.T) {
	admin := pgtest.Unique("equal")
	out, err := exec.CommandContext(t.Context(), filepath.Join(pgtest.Shared.BinDir, "psql"), "-X", "-q", pgtest.Shared.SuperuserDSN(),
		"-v", "admin="+admin, "-v", "user_a="+admin, "-f", filepath.Join("..", "..", "bootstrap", "install", "sql", "postgresql.sql")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "two of the names are equal") {
		t.Errorf("%v: %s", err, out)
	}
	var made int
	if err := pgtest.Shared.Ask(t.Context(), "SELECT count(*)::int FROM pg_roles WHERE rolname = '"+admin+"'", &made); err != nil || made != 0 {
		t.Errorf("%d roles were made: %v", made, err)
	}
}
