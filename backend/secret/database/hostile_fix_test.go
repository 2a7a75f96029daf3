package database

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
)

// Names that those who make roles, databases and what is in them may choose. Each of
// the breaking ones ends what it could stand in, and would make mallory a superuser,
// or a file where psql runs.
var breaking = []string{
	`a"; ALTER ROLE mallory SUPERUSER; --`,
	`b'; ALTER ROLE mallory SUPERUSER; --`,
	`c $smvm$; ALTER ROLE mallory SUPERUSER; $smvm$`,
	`d \! touch made`, `e :v :'v' :"v"`, "f `touch made`",
	`g\'; ALTER ROLE mallory SUPERUSER; --`,
	`h %s %I %1$L */ ALTER ROLE mallory SUPERUSER; /*`,
	`host=127.0.0.1 port=1 dbname=made`, `postgresql://127.0.0.1:1/made`,
	`-`, `a.x`, `select`, strings.Repeat("n", 63),
}

// foreign are in other scripts, and nothing else.
var foreign = []string{`naïve 丁 é`, strings.Repeat("ü", 31)}

// hiding are those of which nothing may be printed. The last one breaks out of its
// quotes where psql takes what it reads for Shift JIS.
var hiding = []string{
	"i\n\\! touch made\n", "j\r\\! touch made", "k\t\t\x1b[2J", "l\u202egnp", "m\u2028\\! touch made", "n\u0085\\! touch made", "o\u3164p",
	`丁"; ALTER ROLE mallory SUPERUSER; --`,
}

// court is a server with a database to be copied, whose owner has put a trap on every
// function, operator, table and type of PostgreSQL's own. The traps are in the schema
// trap.
type court struct {
	t    *testing.T
	pg   *testenv.Postgres
	seen *sync.Map
}

func newCourt(t *testing.T, major int, seen *sync.Map) *court {
	t.Helper()
	c := &court{t, testenv.NewPostgres(t, testenv.PostgresOptions{Major: major}), seen}
	b := newBench(t, c.pg)
	b.SQL("CREATE ROLE mallory")
	b.SQL("CREATE ROLE crown")
	b.SQL("CREATE DATABASE trapped")
	script, err := os.ReadFile(filepath.Join("testdata", "traps.sql"))
	expect.OK(t, err)
	(&patient{bench: b, psqlDir: pgtest.Shared.BinDir, databaseName: "trapped"}).psql(string(script))
	return c
}

// victim is a patient whose database is full of traps, and who runs what is printed.
type victim struct {
	*patient
	court *court
	// users are those of the application, and their owner.
	users []string
}

// victim makes one whose database, users and owner have these names.
func (c *court) victim(t *testing.T, names []string, f fault) *victim {
	t.Helper()
	b := newBench(t, c.pg)
	b.SQL("CREATE DATABASE %s TEMPLATE trapped", postgres.QuoteName(names[0]))
	b.SQL("REVOKE CONNECT ON DATABASE %s FROM PUBLIC", postgres.QuoteName(names[0]))
	v := &victim{patient: newPatientOf(t, c.pg, names[0], names[1], names[2], names[3], f), court: c, users: names[1:4]}
	t.Cleanup(v.bury)
	v.SQL("ALTER ROLE %s PASSWORD %s", v.names.Replace("{a}"), postgres.QuoteLiteral(v.userPassword))
	for range f.sessions {
		v.session()
	}
	v.spoil(f.spoil)
	return v
}

// spoil makes a fault, and then arms the traps: as ALTER DATABASE … SET does, but for
// the person only who pastes.
func (v *victim) spoil(script string) {
	v.T.Helper()
	v.psql("SET search_path = public;\n" + v.names.Replace(script))
	v.arm(v.databaseName)
}

func (v *victim) arm(database string) {
	v.T.Helper()
	for _, setting := range []string{"search_path = trap, pg_catalog, public", "standard_conforming_strings = off"} {
		v.SQL("ALTER ROLE %s IN DATABASE %s SET %s", testenv.Superuser, postgres.QuoteName(database), setting)
	}
}

// bury frees the names for the next one.
func (v *victim) bury() {
	v.SQL("DROP DATABASE IF EXISTS %s WITH (FORCE)", postgres.QuoteName(v.databaseName))
	var roles []string
	for _, role := range append(slices.Clone(v.users), v.Admin.Username, ownerName(role{name: v.users[0]})) {
		roles = append(roles, postgres.QuoteLiteral(role))
	}
	var drop string
	expect.OK(v.T, v.PG.Ask(context.Background(), `SELECT coalesce(string_agg(format('DROP OWNED BY %1$I; DROP ROLE %1$I', rolname), ';'), '')
		FROM pg_roles WHERE rolname IN (`+strings.Join(roles, ", ")+")", &drop))
	v.SQL("%s", drop)
}

// run pastes a text into psql, and sees that nothing was done that was not meant.
func (v *victim) run(text string, args ...string) {
	v.T.Helper()
	watch, err := v.PG.Connect(v.T.Context(), v.databaseName, map[string]string{"search_path": "pg_catalog"})
	expect.OK(v.T, err)
	defer watch.Close(context.Background()) //nolint:errcheck // nothing depends on it
	before := v.calls(watch)
	v.psql(text, append(args, "-v", "v=1; ALTER ROLE mallory SUPERUSER; SELECT 1")...)
	if calls := v.calls(watch) - before; calls > 0 {
		v.T.Errorf("%d calls of traps by\n%s", calls, text)
	}
	var super, member bool
	expect.OK(v.T, watch.QueryRow(v.T.Context(), `SELECT EXISTS (SELECT FROM pg_roles WHERE rolsuper AND rolname = ANY ($1)),
		EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member WHERE g.rolname = 'crown' OR 'mallory' IN (g.rolname, u.rolname))`,
		[]string{v.users[0], v.users[1], "mallory"}).Scan(&super, &member))
	if super {
		v.T.Errorf("a role is a superuser after\n%s", text)
	}
	if member {
		v.T.Errorf("a membership that nobody meant after\n%s", text)
	}
}

// calls is how often a trap was stepped on, asked where names mean what everybody means
// by them.
func (v *victim) calls(watch *pgx.Conn) (count int) {
	v.T.Helper()
	expect.OK(v.T, watch.QueryRow(v.T.Context(), "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM trap.calls").Scan(&count))
	return count
}

// mend pastes all that is found of a check, and sees that the finding is gone.
func (v *victim) mend(check string) {
	v.T.Helper()
	found := of(v.look(), check)
	if len(found) == 0 {
		v.T.Fatalf("%s has found nothing", check)
	}
	for _, f := range found {
		v.examine(f)
		v.run(f.Fix.String())
		v.again(f)
	}
	if left := of(v.look(), check); len(left) > 0 && left[0].Severity != preflight.Unknown {
		v.T.Errorf("after\n%v\nthere still is\n%+v", found, left)
	}
}

// described expects findings of a check of which nothing is to be run.
func (v *victim) described(check string) {
	v.T.Helper()
	found := of(v.look(), check)
	if len(found) == 0 {
		v.T.Fatalf("%s has found nothing", check)
	}
	for _, f := range found {
		v.examine(f)
		if f.Fix.String() != "" || !strings.Contains(f.Detail, "not told in full") {
			v.T.Errorf("%s is not only described: %s\n%s", check, f.Detail, f.Fix)
		}
	}
}

// again pastes what was told in other ways: without its first line, as one line, and
// where psql takes it for another encoding. Of most statements that is a second time,
// and an error.
func (v *victim) again(f preflight.Finding) {
	v.T.Helper()
	_, rest, _ := strings.Cut(f.Fix.String(), "\n")
	v.run(rest, "-v", "ON_ERROR_STOP=0")
	v.run("\\encoding SJIS\n"+f.Fix.String(), "-v", "ON_ERROR_STOP=0")
	if _, line, ok := strings.Cut(f.String(), "; run: "); ok {
		v.run(line, "-v", "ON_ERROR_STOP=0")
	}
}

// examine checks the text of a finding: it settles the search path first, in each
// database, and has nothing that does not show.
func (v *victim) examine(f preflight.Finding) {
	v.T.Helper()
	lines := strings.Split(f.Fix.String(), "\n")
	for i, line := range lines {
		begins := i == 0 || strings.HasPrefix(lines[i-1], `\connect`)
		if line != "" && begins && line != "SET search_path = pg_catalog, pg_temp;" && !strings.HasPrefix(line, `\connect`) {
			v.T.Errorf("search_path is not settled in\n%s", f.Fix)
		}
	}
	for _, r := range f.Detail + strings.Join(lines, "") {
		if !strconv.IsPrint(r) {
			v.T.Errorf("%s tells %q:\n%q\n%q", f.Check, r, f.Detail, f.Fix)
		}
	}
	if f.Fix.String() != "" {
		v.court.seen.Store(f.Check, true)
	}
}

// draw returns four names of those, others for each number.
func draw(names []string, number int) []string {
	var drawn []string
	for i := range 4 {
		drawn = append(drawn, names[(4*number+i+number/len(names))%len(names)])
	}
	return drawn
}

// TestHostileFixes pastes what is printed of every fault, with names that break out of
// anything, in a database full of traps. What a check prints that has a name in it, is
// among that.
func TestHostileFixes(t *testing.T) {
	seen := &sync.Map{}
	t.Run("on", func(t *testing.T) {
		for _, major := range []int{15, 18} {
			t.Run(fmt.Sprint(major), func(t *testing.T) {
				t.Parallel()
				c := newCourt(t, major, seen)
				for i, f := range faults {
					if f.from <= major && (f.before == 0 || major < f.before) {
						t.Run(f.name, func(t *testing.T) {
							v := c.victim(t, draw(breaking, i), f)
							if slices.Contains(inDatabase, f.check) && !connectable.MatchString(v.databaseName) {
								v.described(f.check)
								v.bury()
								v = c.victim(t, append([]string{"victims"}, draw(breaking, i)[1:]...), f)
							}
							v.mend(f.check)
						})
					}
				}
			})
		}
	})
	seen.Store("database.grants_elsewhere", true) // of TestHostileNames
	// What a setting of the whole server brings about, or of a database that nobody can be
	// in any more, is of TestLook and TestLookAtStandbys.
	seen.Store("database.allow_connections", true)
	seen.Store("database.synchronous_standby", true)
	t.Run("every check", func(t *testing.T) {
		for _, check := range checksWithNames(t) {
			if _, ok := seen.Load(check); !ok {
				t.Errorf("nothing that %s prints was pasted: add a fault", check)
			}
		}
	})
}

// inDatabase are the checks whose fixes mean something else in another database. They
// are told with the way to theirs, or not at all.
var inDatabase = []string{"database.grants", "database.owned_objects"}

// plainFixes are the checks that print no name, or nothing for psql.
var plainFixes = []string{
	"database.clock", "database.current", "database.in_use", "database.inspected", "database.max_connections", "database.primary", "database.privileges",
	"database.reachable", "database.replication", "database.superuser", "database.user_is_admin", "database.verifiers", "database.pg_hba",
}

// checksWithNames reads from the source what checks there are.
func checksWithNames(t *testing.T) (checks []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	expect.OK(t, err)
	for _, file := range files {
		source, err := os.ReadFile(file)
		expect.OK(t, err)
		for _, match := range regexp.MustCompile(`(?:Expect|Pass)\([^"\n]*"(database\.[a-z_]+)"`).FindAllStringSubmatch(string(source), -1) {
			if !strings.HasSuffix(file, "_test.go") && !slices.Contains(plainFixes, match[1]) && !slices.Contains(checks, match[1]) {
				checks = append(checks, match[1])
			}
		}
	}
	if len(checks) < 20 {
		t.Fatalf("only %d checks are in the source", len(checks))
	}
	return checks
}

// TestHostileNames has everything that a finding can name called so. The names of the
// users stay plain, so that what is withheld is so because of this name.
func TestHostileNames(t *testing.T) {
	for _, major := range []int{15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			c := newCourt(t, major, &sync.Map{})
			v := c.victim(t, []string{"victims", "a", "b", "ab"}, fault{})
			for _, name := range slices.Concat(breaking, foreign, hiding) {
				v.named(name)
			}
		})
	}
}

// named makes a group, a schema, all sorts of objects and a database of that name, and
// drops them again.
func (v *victim) named(name string) {
	v.T.Helper()
	quoted := func(script string) string { return strings.ReplaceAll(script, "{n}", postgres.QuoteName(name)) }
	v.SQL("%s", quoted("CREATE ROLE {n}"))
	template := "template1"
	if connectable.MatchString(name) {
		template = "trapped"
	}
	v.SQL("%s", quoted("CREATE DATABASE {n} TEMPLATE "+template))
	v.elsewhere(v.databaseName, quoted(`GRANT {n} TO a; CREATE SCHEMA {n}; GRANT USAGE ON SCHEMA {n} TO a; CREATE TABLE {n}.{n} ({n} int);
		GRANT SELECT ON {n}.{n} TO a; GRANT UPDATE ({n}) ON {n}.{n} TO b; CREATE FUNCTION {n}.{n}(x {n}.{n}[], int) RETURNS int LANGUAGE sql AS 'SELECT 1';
		GRANT EXECUTE ON FUNCTION {n}.{n} TO b; ALTER DEFAULT PRIVILEGES FOR ROLE {n} IN SCHEMA {n} GRANT SELECT ON TABLES TO a; ALTER ROLE a SET search_path = {n}, public`))
	v.elsewhere(name, "CREATE TABLE public.x (n int); GRANT SELECT ON public.x TO a; CREATE TABLE public.y (n int); ALTER TABLE public.y OWNER TO b")
	v.arm(v.databaseName)
	v.arm(name)
	for _, check := range []string{"database.memberships", "database.grants"} {
		if !slices.Contains(hiding, name) {
			v.mend(check)
		} else if len(of(v.look(), check)) > 0 { // the query leaves out what has control characters
			v.described(check)
		}
	}
	v.mend("database.settings")
	v.elsewhereFixes(name)
	v.SQL("%s", quoted("DROP DATABASE {n} WITH (FORCE)"))
	v.elsewhere(v.databaseName, quoted("DROP SCHEMA {n} CASCADE; DROP OWNED BY {n}; DROP ROLE {n}"))
}

// connectable are names of databases that psql's \connect takes for nothing else.
var connectable = regexp.MustCompile(`^[-a-zA-Z0-9_. ]+$`)

// elsewhereFixes are told only if psql takes the name for one of a database.
func (v *victim) elsewhereFixes(name string) {
	v.T.Helper()
	for _, check := range []string{"database.owned_objects", "database.grants_elsewhere"} {
		if connectable.MatchString(name) {
			v.mend(check)
		} else {
			v.described(check)
		}
	}
}

// TestRawLists stores a search path as SET … FROM CURRENT does: as it is. It is not
// copied then, also not when that happens after the fix was printed.
func TestRawLists(t *testing.T) {
	c := newCourt(t, 15, &sync.Map{})
	v := c.victim(t, []string{"victims", "a", "b", "ab"}, fault{spoil: `ALTER ROLE {a} SET search_path = public, "It's, one", ''`})
	printed := of(v.look(), "database.settings")
	if len(printed) != 1 {
		t.Fatalf("found %+v", printed)
	}
	for _, raw := range []string{"a;ALTER/**/ROLE/**/mallory/**/SUPERUSER", `a";ALTER/**/ROLE/**/mallory/**/SUPERUSER;--`, "a';ALTER/**/ROLE/**/mallory/**/SUPERUSER;--'", "Upper"} {
		v.SQL("SELECT set_config('search_path', %s, false); ALTER ROLE a SET search_path FROM CURRENT; RESET search_path", postgres.QuoteLiteral(raw))
		v.described("database.settings")
		v.run(printed[0].Fix.String(), "-v", "ON_ERROR_STOP=0")
	}
	v.spoil(`ALTER ROLE {a} SET search_path = public, "It's, one", ''`)
	v.mend("database.settings")
}

// TestOwnerExists is about a role that has by chance, or not by chance, the name that
// the owner is to have: nobody becomes a member of it.
func TestOwnerExists(t *testing.T) {
	c := newCourt(t, 15, &sync.Map{})
	v := c.victim(t, []string{"victims", "a", "b", "ab"}, fault{spoil: `REVOKE {owner} FROM {a}, {b}; CREATE ROLE a_owner`})
	for _, f := range of(v.look(), "database.owner") {
		v.run(f.Fix.String(), "-v", "ON_ERROR_STOP=0")
	}
	if v.has("pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE g.rolname = 'a_owner'") {
		t.Error("somebody is a member of a role that was there before")
	}
}

// elsewhere runs statements as the superuser in a database.
func (v *victim) elsewhere(database, statements string) {
	v.T.Helper()
	conn, err := v.PG.Connect(v.T.Context(), database, nil)
	expect.OK(v.T, err)
	defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on it
	_, err = conn.Exec(v.T.Context(), statements)
	expect.OK(v.T, err)
}
