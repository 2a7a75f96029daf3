package database

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// patient is an application's database on a server of its own, made by what
// operators are given, and a secret for its two users.
type patient struct {
	*bench
	*driver
	secret rotation.Secret
	names  *strings.Replacer
	// psqlDir has the psql that everything is run with.
	psqlDir, databaseName, userPassword string
}

// TestInspect makes each fault, sees that it is found, runs what the finding says,
// word for word, in psql, and sees that it is found no more.
func TestInspect(t *testing.T) {
	hospital(t, pgtest.Shared, "orders a", func(fault) bool { return true })
}

// TestInspectEveryMajor does so on each major version with what is another thing on
// some of them, and with a name that has to be quoted everywhere.
func TestInspectEveryMajor(t *testing.T) {
	for major := 14; major <= 18; major++ {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			hospital(t, pgtest.OfMajor(t, major), `"; it's $smvm$ \`, func(f fault) bool { return f.differs || f.from+f.before > 0 })
		})
	}
}

// TestMembershipFixGivesNothingMore has a user be a member of a group of pg_hba.conf only:
// what makes the other user a member as well lets neither of them act as that group.
func TestMembershipFixGivesNothingMore(t *testing.T) {
	p := newPatient(t, pgtest.OfMajor(t, 16), pgtest.Unique("orders db"), "orders_a", fault{})
	p.cure(fault{check: "database.memberships", severity: preflight.Error, spoil: `CREATE ROLE {x}; GRANT {x} TO {a} WITH INHERIT FALSE, SET FALSE`})
	if p.has(p.names.Replace("pg_auth_members WHERE roleid = '{x}'::regrole AND (inherit_option OR set_option)")) {
		t.Error("a membership with options was granted")
	}
}

// hospital makes and cures faults on one server, each with users of its own, of which
// the first has that name and a number.
func hospital(t *testing.T, pg *testenv.Postgres, name string, admits func(fault) bool) {
	db := pgtest.Unique("orders db")
	major := pg.Version / 10000
	t.Run("all is well", func(t *testing.T) { newPatient(t, pg, db, name, fault{}).healthy() })
	for _, f := range faults {
		if admits(f) && f.from <= major && (f.before == 0 || major < f.before) {
			t.Run(f.name, func(t *testing.T) { newPatient(t, pg, db, name, f).cure(f) })
		}
	}
}

// newPatient makes the database if it does not exist.
func newPatient(t *testing.T, pg *testenv.Postgres, db, name string, f fault) *patient {
	t.Helper()
	return newPatientOf(t, pg, db, pgtest.Unique(name), pgtest.Unique("orders_b"), pgtest.Unique("Owner"), f)
}

// newPatientOf is newPatient with all names given.
func newPatientOf(t *testing.T, pg *testenv.Postgres, db, a, other, owner string, f fault) *patient {
	t.Helper()
	b := newBench(t, pg)
	p := &patient{bench: b, psqlDir: pgtest.Shared.BinDir, databaseName: db, userPassword: postgres.RandomPassword(), names: strings.NewReplacer(
		"{a}", postgres.QuoteName(a), "{b}", postgres.QuoteName(other), "{owner}", postgres.QuoteName(owner), "{admin}", postgres.QuoteName(b.Admin.Username), "{db}", postgres.QuoteName(db), "{x}", pgtest.Unique("thing"))}
	b.SQL("ALTER ROLE %s CREATEROLE", postgres.QuoteName(b.Admin.Username))
	if !b.has("pg_database WHERE datname = " + postgres.QuoteLiteral(db)) {
		b.SQL("CREATE DATABASE %s", postgres.QuoteName(db))
		b.SQL("REVOKE CONNECT ON DATABASE %s FROM PUBLIC", postgres.QuoteName(db))
	}
	b.Connection.Settings.Database = db
	script, err := os.ReadFile(filepath.Join("..", "..", "..", "bootstrap", "install", "sql", "postgresql.sql"))
	expect.OK(t, err)
	p.psql(string(script), "-v", "admin="+b.Admin.Username, "-v", "owner="+owner, "-v", "user_a="+a, "-v", "user_b="+other)
	c := Config{Usernames: []string{a, other}}
	if f.configure != nil {
		f.configure(b, &c)
	}
	p.driver, p.secret = b.database(c)
	mark, err := postgres.Note{}.Naming(b.Owner)
	expect.OK(t, err)
	for _, username := range c.Usernames {
		b.SQL("COMMENT ON ROLE %s IS %s", postgres.QuoteName(username), postgres.QuoteLiteral(mark))
	}
	return p
}

// has reports whether there is a row.
func (b *bench) has(rows string) (there bool) {
	b.T.Helper()
	conn := pgtest.Connect(b.T, b.PG)
	defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on it
	expect.OK(b.T, conn.QueryRow(b.T.Context(), "SELECT EXISTS (SELECT FROM "+rows+")").Scan(&there))
	return there
}

// psql runs a script as an operator does who is a superuser.
func (p *patient) psql(script string, args ...string) string {
	p.T.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(p.T.Context()), filepath.Join(p.psqlDir, "psql"), append([]string{"-X", "-q", "-v", "ON_ERROR_STOP=1"}, args...)...)
	cmd.Env = append(os.Environ(), "PGHOST="+p.PG.Host, fmt.Sprint("PGPORT=", p.PG.Port), "PGUSER="+testenv.Superuser, "PGPASSWORD="+p.PG.Password, "PGDATABASE="+p.databaseName)
	cmd.Stdin, cmd.Dir = strings.NewReader(script+"\n"), p.T.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.T.Fatalf("psql: %v: %s\n%s", err, out, script)
	}
	if made, err := os.ReadDir(cmd.Dir); err != nil || len(made) > 0 {
		p.T.Errorf("psql has made the files %v (%v) by\n%s", made, err, script)
	}
	return string(out)
}

// look is an inspection for a role that rotates every 30 days.
func (p *patient) look() preflight.Report {
	p.T.Helper()
	conn := pgtest.Connect(p.T, p.PG)
	defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on it
	before := p.catalog(conn)
	found := p.Inspect(p.T.Context(), p.secret, preflight.Subject{Mount: "smvm/", Role: "r", Until: p.Now.Add(60 * 24 * time.Hour)})
	if after := p.catalog(conn); after != before {
		p.T.Errorf("to look has changed the catalog:\n%s\n%s", before, after)
	}
	for _, f := range found {
		if text := f.String(); strings.Contains(text, "hidden") || strings.Contains(text, p.Admin.Password) || strings.Contains(text, p.userPassword) {
			p.T.Errorf("a finding shows a secret: %s", text)
		}
	}
	return found
}

// catalog is all that the server knows of roles, passwords, settings and privileges.
func (p *patient) catalog(conn *pgx.Conn) (all string) {
	p.T.Helper()
	expect.OK(p.T, conn.QueryRow(p.T.Context(), `SELECT concat(
		(SELECT string_agg(concat(xmin, a), e'\n' ORDER BY oid) FROM pg_authid a), (SELECT string_agg(concat(xmin, m), e'\n' ORDER BY roleid, member) FROM pg_auth_members m),
		(SELECT string_agg(concat(xmin, s), e'\n' ORDER BY setrole, setdatabase) FROM pg_db_role_setting s), (SELECT string_agg(concat(xmin, d), e'\n' ORDER BY oid) FROM pg_database d),
		(SELECT string_agg(concat(dbid, classid, objid, refobjid, deptype), ' ' ORDER BY dbid, classid, objid, refobjid, deptype) FROM pg_shdepend))`).Scan(&all))
	return all
}

// healthy expects nothing but what only a superuser can see, and runs what looks at
// that.
func (p *patient) healthy() {
	p.T.Helper()
	found := p.look()
	for _, f := range append(found.With(preflight.Error), found.With(preflight.Warning)...) {
		p.T.Errorf("found where all is well: %s: %s", f.Check, f)
	}
	for _, f := range found.With(preflight.Unknown) {
		if shown := p.psql(f.Fix.String(), "-A", "-t"); shown != "" {
			p.T.Errorf("%s: %s shows %s", f.Check, f.Fix, shown)
		}
	}
	if passed := found.Passed(); len(passed) < 20 {
		p.T.Errorf("only %d checks passed: %q", len(passed), passed)
	}
}

// of returns what a check found.
func of(found preflight.Report, check string) (open preflight.Report) {
	for _, f := range found.Open() {
		if f.Check == check {
			open = append(open, f)
		}
	}
	return open
}

func (p *patient) cure(f fault) {
	p.T.Helper()
	p.SQL("ALTER ROLE %s PASSWORD %s", p.names.Replace("{a}"), postgres.QuoteLiteral(p.userPassword))
	for range f.sessions {
		p.session()
	}
	p.psql(p.names.Replace(f.spoil))
	found := of(p.look(), f.check)
	if len(found) == 0 || found[0].Severity != f.severity {
		p.T.Fatalf("found %+v, want %s of %s", found, f.severity, f.check)
	}
	for _, one := range found {
		if one.Fix.String() == "" || one.Detail == "" {
			p.T.Fatalf("a finding says not enough: %+v", one)
		}
		p.psql(one.Fix.String())
	}
	after := p.look()
	if left := of(after, f.check); len(left) > 0 {
		p.T.Errorf("after\n%v\nthere still is\n%+v", found, left)
	}
	if !slices.Contains(after.Passed(), f.check) {
		p.T.Errorf("after the cure %s is not among what passed: %q", f.check, after.Passed())
	}
}

// session is one of the first user, open until the test ends.
func (p *patient) session() {
	p.T.Helper()
	config, err := pgx.ParseConfig(p.PG.DSN("x", "x", "x"))
	expect.OK(p.T, err)
	config.User, config.Password, config.Database = mustConfig(p.T, p.secret).Usernames[0], p.userPassword, p.databaseName
	conn, err := pgx.ConnectConfig(p.T.Context(), config)
	expect.OK(p.T, err)
	p.T.Cleanup(func() { _ = conn.Close(context.Background()) })
}

// TestInspectOtherDatabases is about what can be seen from a database of another one.
func TestInspectOtherDatabases(t *testing.T) {
	p := newPatient(t, pgtest.Shared, pgtest.Unique("db"), "a", fault{})
	other := postgres.QuoteName(pgtest.Unique("other db"))
	p.SQL("CREATE DATABASE %s", other)
	p.psql(p.names.Replace(`\connect ` + other + "\nCREATE TABLE {x} (n int); CREATE TABLE more (n int); ALTER TABLE more OWNER TO {b}; GRANT SELECT ON {x} TO {a}"))
	found := p.look()
	if owned := of(found, "database.owned_objects"); len(owned) != 1 || !strings.HasPrefix(owned[0].Fix.String(), `\connect `+other+"\n") {
		t.Errorf("found %+v", owned)
	} else {
		p.psql(owned[0].Fix.String())
	}
	if left := of(p.look(), "database.owned_objects"); len(left) > 0 {
		t.Errorf("still found %+v", left)
	}
	grants := of(found, "database.grants_elsewhere")
	if len(grants) != 1 || grants[0].Severity != preflight.Unknown || !strings.Contains(p.psql(grants[0].Fix.String()), "table public."+p.names.Replace("{x}")) {
		t.Errorf("found %+v", grants)
	}
}

// TestInspectPrivileges is about users who may do nothing with the tables that there are,
// whatever the reason, and about each way to a privilege.
func TestInspectPrivileges(t *testing.T) {
	p := newPatient(t, pgtest.Shared, pgtest.Unique("db"), "a", fault{})
	expects := func(users ...string) {
		t.Helper()
		found := of(p.look(), "database.privileges")
		if len(users) == 0 && len(found) > 0 {
			t.Errorf("found %+v", found)
		}
		if len(users) > 0 && (len(found) != 1 || found[0].Severity != preflight.Warning || !strings.Contains(found[0].Detail, fmt.Sprintf("%q", users)+". Was")) {
			t.Errorf("found %+v, want %q", found, users)
		}
	}
	a, b := mustConfig(t, p.secret).Usernames[0], mustConfig(t, p.secret).Usernames[1]
	expects()
	p.psql(p.names.Replace("CREATE SCHEMA {x}; CREATE TABLE {x}.orders (n int, m int)"))
	expects(a, b)
	p.psql(p.names.Replace("GRANT SELECT ON {x}.orders TO {a}")) // without USAGE on its schema
	expects(a, b)
	p.psql(p.names.Replace("GRANT USAGE ON SCHEMA {x} TO {a}, {owner}"))
	expects(b)
	p.psql(p.names.Replace("GRANT UPDATE (m) ON {x}.orders TO {owner}; ALTER ROLE {b} NOINHERIT"))
	expects()
	p.psql(p.names.Replace("REVOKE UPDATE (m) ON {x}.orders FROM {owner}; ALTER TABLE {x}.orders OWNER TO {owner}"))
	expects()
}

// TestInspectManyGrants tells them in portions. A table that is called as if it were
// a statement is not among them.
func TestInspectManyGrants(t *testing.T) {
	p := newPatient(t, pgtest.Shared, pgtest.Unique("db"), "a", fault{})
	p.psql(p.names.Replace(`DO $$ BEGIN FOR i IN 1..60 LOOP EXECUTE format('CREATE TABLE t%s (n int); GRANT SELECT ON t%s TO {a}', i, i); END LOOP;
		EXECUTE format('CREATE TABLE %1$I (n int); GRANT SELECT ON %1$I TO {a}', e'x\nDROP DATABASE postgres;\n'); END $$`))
	for _, want := range []int{50, 10} {
		found := of(p.look(), "database.grants")
		if len(found) != 1 || strings.Count(found[0].Fix.String(), "GRANT SELECT ON TABLE public.t") != want || strings.Count(found[0].Fix.String(), "\n") != want+1 { // the first line leads to the database
			t.Fatalf("found %+v, want %d statements", found, want)
		}
		p.psql(found[0].Fix.String())
	}
	if left := of(p.look(), "database.grants"); len(left) > 0 {
		t.Errorf("still found %+v", left)
	}
}

// TestInspectConnections is about a server that is nearly full, and the setting that
// needs a restart.
func TestInspectConnections(t *testing.T) {
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: map[string]string{"max_connections": "12"}})
	p := newPatient(t, pg, pgtest.Unique("db"), "a", fault{})
	p.SQL("ALTER ROLE %s PASSWORD %s", p.names.Replace("{a}"), postgres.QuoteLiteral(p.userPassword))
	for range 6 {
		p.session()
	}
	found := of(p.look(), "database.max_connections")
	if len(found) != 1 || found[0].Severity != preflight.Warning {
		t.Fatalf("found %+v", found)
	}
	p.psql(found[0].Fix.String())
	expect.OK(t, pg.Restart(t.Context()))
	for range 6 {
		p.session()
	}
	if left := of(p.look(), "database.max_connections"); len(left) > 0 {
		t.Errorf("still found %+v", left)
	}
}

// TestInspectStandby and a server that does not answer.
func TestInspectStandby(t *testing.T) {
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{})
	p := newPatient(t, pg, pgtest.Unique("db"), "a", fault{})
	p.psql(`COPY (SELECT '') TO PROGRAM 'cat > standby.signal'`)
	expect.OK(t, pg.Restart(t.Context()))
	if found := of(p.look(), "database.primary"); len(found) != 1 || found[0].Severity != preflight.Error {
		t.Errorf("found %+v", found)
	}
	expect.OK(t, pg.Kill())
	found := p.Inspect(t.Context(), p.secret, preflight.Subject{})
	if len(found) != 1 || found[0].Check != "database.reachable" || found.Ready() || !strings.Contains(found[0].Detail, p.PG.Address()) {
		t.Errorf("found %+v", found)
	}
}

// TestInspectClock moves this node's clock.
func TestInspectClock(t *testing.T) {
	p := newPatient(t, pgtest.Shared, pgtest.Unique("db"), "a", fault{})
	for ahead, words := range map[time.Duration]*regexp.Regexp{
		// Some seconds may pass until the server is asked.
		time.Hour: regexp.MustCompile(`(1h0m0s|59m5\ds) behind`), -time.Minute: regexp.MustCompile(`1m\ds ahead of`),
	} {
		p.Now = time.Now().Add(ahead)
		if found := of(p.look(), "database.clock"); len(found) != 1 || found[0].Severity != preflight.Warning || !words.MatchString(found[0].Detail) {
			t.Errorf("found %+v, want %s", found, words)
		}
	}
	p.Now = time.Now().Add(3 * time.Second)
	if found := of(p.look(), "database.clock"); len(found) > 0 {
		t.Errorf("found %+v", found)
	}
}

// TestInspectAuthentication is about what only a superuser may see, unless the
// administrator is allowed to.
func TestInspectAuthentication(t *testing.T) {
	p := newPatient(t, pgtest.Shared, pgtest.Unique("db"), "a", fault{})
	p.psql(p.names.Replace("GRANT SELECT (rolname, rolpassword) ON pg_authid TO {admin}; GRANT SELECT ON pg_hba_file_rules TO {admin}; GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO {admin}"))
	t.Cleanup(func() {
		p.psql(p.names.Replace("REVOKE SELECT (rolname, rolpassword) ON pg_authid FROM {admin}; REVOKE SELECT ON pg_hba_file_rules FROM {admin}; REVOKE EXECUTE ON FUNCTION pg_hba_file_rules() FROM {admin}"))
	})
	if found := p.look(); len(found.Open()) > 0 {
		t.Errorf("found %+v", found.Open())
	}
	p.psql(p.names.Replace("SET password_encryption = md5; ALTER ROLE {a} PASSWORD 'short lived'"))
	if found := of(p.look(), "database.verifiers"); len(found) != 1 || found[0].Fix.String() != "vault write smvm/rotate/r reason=md5" {
		t.Errorf("found %+v", found)
	}
	v, err := p.Create(t.Context(), p.secret)
	expect.OK(t, err)
	expect.OK(t, p.Set(t.Context(), p.secret, v, conformance.Unfenced))
	if found := of(p.look(), "database.verifiers"); len(found) > 0 {
		t.Errorf("after a rotation there is %+v", found)
	}
	b := newBench(t, pgtest.Shared)
	d, s := b.database(Config{Usernames: []string{b.User("trusted_user")}})
	query := of(d.Inspect(t.Context(), s, preflight.Subject{}), "database.pg_hba")
	if len(query) != 1 || query[0].Severity != preflight.Unknown || !strings.Contains(p.psql(query[0].Fix.String()), "trust") {
		t.Errorf("found %+v", query)
	}
}
