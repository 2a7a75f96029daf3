package database

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// remedy finds the statements that an error tells the operator to run.
var remedy = regexp.MustCompile(`run: (.*?;)(?:;|$)`)

// follow runs literally what err says, as the superuser.
func (b *bench) follow(err error) (ran []string) {
	b.T.Helper()
	expect.Invalid(b.T, err)
	for _, match := range remedy.FindAllStringSubmatch(err.Error(), -1) {
		b.SQL("%s", match[1])
		ran = append(ran, match[1])
	}
	if len(ran) == 0 {
		b.T.Fatalf("nothing to run in: %v", err)
	}
	return ran
}

// TestMinimalGrants begins with nothing on every major version, and does what
// the errors say until Preflight is content. What was run then is all that is
// needed, and nothing of it was superfluous.
func TestMinimalGrants(t *testing.T) {
	for major := 14; major <= 18; major++ {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, pgtest.OfMajor(t, major))
			b.setNamesTheRemedy(major)
			users := []string{`app "a"`, `app 'b'`}
			d, s := b.database(Config{Usernames: users})
			ran := b.followUntilContent(d, &s)
			want := 2 // both users; the administrator has CREATEROLE by now
			if major >= 16 {
				want = 4 // and ADMIN OPTION on both
			}
			if len(ran) != want {
				t.Errorf("%d statements were needed, want %d: %q", len(ran), want, ran)
			}
			b.rotateTwice(d, &s)
		})
	}
}

func (b *bench) followUntilContent(d *driver, s *rotation.Secret) (ran []string) {
	b.T.Helper()
	for range 4 {
		v, err := d.Create(b.T.Context(), *s)
		expect.OK(b.T, err)
		if _, err = d.Preflight(b.T.Context(), *s, v); err == nil {
			return ran
		}
		ran = append(ran, b.follow(err)...)
	}
	b.T.Fatal("Preflight is never content")
	return nil
}

func (b *bench) rotateTwice(d *driver, s *rotation.Secret) {
	b.T.Helper()
	for range 3 {
		v, err := d.Create(b.T.Context(), *s)
		expect.OK(b.T, err)
		expect.OK(b.T, d.Set(b.T.Context(), *s, v, conformance.Unfenced))
		expect.OK(b.T, d.Test(b.T.Context(), *s, v))
		old := s.Current
		s.Current = b.Value(v)
		if old != nil {
			expect.OK(b.T, d.Retire(b.T.Context(), *s, old.Material, conformance.Unfenced))
		}
	}
}

// setNamesTheRemedy checks that the remedy also comes when nobody asked
// Preflight, and follows it.
func (b *bench) setNamesTheRemedy(major int) {
	b.T.Helper()
	b.SQL("CREATE ROLE plain LOGIN")
	d, s := b.database(Config{Usernames: []string{"plain"}})
	v, err := d.Create(b.T.Context(), s)
	expect.OK(b.T, err)
	wanted := []string{`ALTER ROLE "` + b.Admin.Username + `" CREATEROLE;`}
	if major >= 16 {
		wanted = append(wanted, `GRANT "plain" TO "`+b.Admin.Username+`" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;`)
	}
	err = d.Set(b.T.Context(), s, v, conformance.Unfenced)
	if postgres.CodeOf(err) != postgres.CodeInsufficientPrivilege {
		b.T.Fatalf("got %v, want SQLSTATE 42501", err)
	}
	for _, want := range wanted {
		if !strings.Contains(err.Error(), want) {
			b.T.Errorf("%v does not say %s", err, want)
		}
		b.SQL("%s", want)
	}
	expect.OK(b.T, d.Set(b.T.Context(), s, v, conformance.Unfenced))
	expect.OK(b.T, d.Test(b.T.Context(), s, v))
}

// TestPreflightProblems breaks one thing at a time and follows the remedy.
func TestPreflightProblems(t *testing.T) {
	for name, spoil := range map[string]string{
		"no login":        `ALTER ROLE %[1]s NOLOGIN`,
		"expired":         `ALTER ROLE %[1]s VALID UNTIL '2020-01-01'`,
		"limit":           `ALTER ROLE %[1]s CONNECTION LIMIT 0`,
		"member of more":  `CREATE ROLE %[3]s; GRANT %[3]s TO %[1]s`,
		"member of other": `CREATE ROLE %[3]s; GRANT %[3]s TO %[2]s`,
		"weak admin":      `ALTER ROLE %[4]s NOCREATEROLE`,
		"dropped":         `DROP ROLE %[1]s`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, pgtest.Shared)
			users := b.Pair(pgtest.Unique("a"), pgtest.Unique("b"))
			d, s := b.database(Config{Usernames: users})
			b.SQL(spoil+"; --%[1]s%[2]s%[3]s%[4]s", users[0], users[1], pgtest.Unique("group"), b.Admin.Username)
			if ran := b.followUntilContent(d, &s); len(ran) == 0 {
				t.Error("nothing was wrong")
			}
		})
	}
}

// TestPreflightTakesNothingAway is about users for whom the remedy might harm others: the
// only superuser of the server, or the one as whom others replicate.
func TestPreflightTakesNothingAway(t *testing.T) {
	b := newBench(t, pgtest.OfMajor(t, 15))
	for attribute, what := range map[string]string{"SUPERUSER": "is a superuser", "REPLICATION": "has REPLICATION"} {
		user := b.User(pgtest.Unique("app"))
		b.SQL("ALTER ROLE %s %s", postgres.QuoteName(user), attribute)
		d, s := b.database(Config{Usernames: []string{user}})
		v, err := d.Create(t.Context(), s)
		expect.OK(t, err)
		_, err = d.Preflight(t.Context(), s, v)
		expect.Invalid(t, err, what, "use another user")
		if strings.Contains(err.Error(), "run: ") {
			t.Errorf("it says what to run: %v", err)
		}
	}
}

func TestPreflightFindings(t *testing.T) {
	for name, test := range map[string]struct{ spoil, want string }{
		"owns":       {`CREATE TABLE public.%[3]s (n int); ALTER TABLE public.%[3]s OWNER TO %[1]s`, "owns 1 objects"},
		"grants":     {`CREATE TABLE public.%[3]s (n int); GRANT SELECT ON public.%[3]s TO %[2]s`, "and 1 the other way round"},
		"attributes": {`ALTER ROLE %[1]s BYPASSRLS`, "BYPASSRLS"},
		"settings":   {`ALTER ROLE %[1]s SET search_path = hidden_value`, "search_path"},
		"expiring":   {`ALTER ROLE %[2]s VALID UNTIL 'tomorrow'`, "seven days"},
		"no owner":   {`DO $$ BEGIN EXECUTE (SELECT 'REVOKE ' || string_agg(DISTINCT g.rolname, ',') || ' FROM %[1]s, %[2]s' FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member WHERE u.rolname = '%[1]s'); END $$`, "no common role"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, pgtest.Shared)
			users := b.Pair(pgtest.Unique("a"), pgtest.Unique("b"))
			d, s := b.database(Config{Usernames: users})
			b.SQL(test.spoil+"; --%[1]s%[2]s%[3]s", users[0], users[1], pgtest.Unique("thing"))
			v, err := d.Create(t.Context(), s)
			expect.OK(t, err)
			findings, err := d.Preflight(t.Context(), s, v)
			expect.OK(t, err)
			if len(findings) != 1 || !strings.Contains(findings[0], test.want) || strings.Contains(findings[0], "hidden_value") {
				t.Errorf("found %q, want one thing that mentions %q", findings, test.want)
			}
		})
	}
}

func TestPreflightSeesABrokenLogin(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	d, s := b.database(Config{Usernames: []string{b.User(pgtest.Unique("app"))}})
	s.Current = b.Value(postgres.Material(mustConfig(t, s).Usernames[0], "not this one"))
	v, err := d.Create(t.Context(), s)
	expect.OK(t, err)
	findings, err := d.Preflight(t.Context(), s, v)
	expect.OK(t, err)
	if len(findings) != 1 || !strings.Contains(findings[0], "does not work") {
		t.Errorf("found %q", findings)
	}
	expect.SecretFree(t, findings[0], s.Current.Material)
}

func mustConfig(t testing.TB, s rotation.Secret) settings {
	t.Helper()
	c, err := readConfig(s.Config)
	expect.OK(t, err)
	return c
}

// TestDryRunIsDry tries to smuggle a COMMIT into the transaction that Preflight
// rolls back.
func TestDryRunIsDry(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	user := b.User(pgtest.Unique("app"))
	for _, smuggler := range []string{
		"ALTER ROLE {{name}} PASSWORD {{password}}; COMMIT",
		"DO $$ BEGIN COMMIT; END $$",
		"ALTER ROLE {{name}} PASSWORD {{password}}",
	} {
		d, s := b.database(Config{Usernames: []string{user}, RotationStatements: []string{"ALTER ROLE {{name}} PASSWORD {{password}}", smuggler}})
		v, err := d.Create(t.Context(), s)
		expect.OK(t, err)
		_, err = d.Preflight(t.Context(), s, v)
		if honest := !strings.Contains(smuggler, "COMMIT"); honest != (err == nil) {
			t.Errorf("%s: %v", smuggler, err)
		}
		expect.Refused(t, d.Test(t.Context(), s, v))
	}
}

func TestManagedAdminIsRefused(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	b.SQL("ALTER ROLE %s CREATEROLE", b.Admin.Username)
	d, s := b.database(Config{Usernames: []string{b.Admin.Username}})
	v, err := d.Create(t.Context(), s)
	expect.OK(t, err)
	_, err = d.Preflight(t.Context(), s, v)
	expect.Invalid(t, err, "administrator")
	expect.Invalid(t, d.Set(t.Context(), s, v, conformance.Unfenced), "administrator")
	expect.OK(t, b.Server(nil).Try(t.Context(), b.Admin))
}
