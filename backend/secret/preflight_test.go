package secret

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// remedy finds the statements that an error tells the operator to run.
var remedy = regexp.MustCompile(`run: (.*?;)(?:;|$)`)

// follow runs literally what err says, as the superuser.
func (b *bench) follow(err error) (ran []string) {
	b.t.Helper()
	wantInvalid(b.t, err)
	for _, match := range remedy.FindAllStringSubmatch(err.Error(), -1) {
		b.sql("%s", match[1])
		ran = append(ran, match[1])
	}
	if len(ran) == 0 {
		b.t.Fatalf("nothing to run in: %v", err)
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
			b := newBench(t, ofMajor(t, major))
			b.setNamesTheRemedy(major)
			users := []string{`app "a"`, `app 'b'`}
			d, s := b.database(DatabaseConfig{Usernames: users})
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

func (b *bench) followUntilContent(d *database, s *rotation.Secret) (ran []string) {
	b.t.Helper()
	for range 4 {
		v, err := d.Create(b.t.Context(), *s)
		must(b.t, err)
		if _, err = d.Preflight(b.t.Context(), *s, v); err == nil {
			return ran
		}
		ran = append(ran, b.follow(err)...)
	}
	b.t.Fatal("Preflight is never content")
	return nil
}

func (b *bench) rotateTwice(d *database, s *rotation.Secret) {
	b.t.Helper()
	for range 3 {
		v, err := d.Create(b.t.Context(), *s)
		must(b.t, err)
		must(b.t, d.Set(b.t.Context(), *s, v, unfenced))
		must(b.t, d.Test(b.t.Context(), *s, v))
		old := s.Current
		s.Current = b.value(v)
		if old != nil {
			must(b.t, d.Retire(b.t.Context(), *s, old.Material, unfenced))
		}
	}
}

// setNamesTheRemedy checks that the remedy also comes when nobody asked
// Preflight, and follows it.
func (b *bench) setNamesTheRemedy(major int) {
	b.t.Helper()
	b.sql("CREATE ROLE plain LOGIN")
	d, s := b.database(DatabaseConfig{Usernames: []string{"plain"}})
	v, err := d.Create(b.t.Context(), s)
	must(b.t, err)
	wanted := []string{`ALTER ROLE "` + b.admin.Username + `" CREATEROLE;`}
	if major >= 16 {
		wanted = append(wanted, `GRANT "plain" TO "`+b.admin.Username+`" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;`)
	}
	err = d.Set(b.t.Context(), s, v, unfenced)
	if codeOf(err) != codeInsufficientPrivilege {
		b.t.Fatalf("got %v, want SQLSTATE 42501", err)
	}
	for _, want := range wanted {
		if !strings.Contains(err.Error(), want) {
			b.t.Errorf("%v does not say %s", err, want)
		}
		b.sql("%s", want)
	}
	must(b.t, d.Set(b.t.Context(), s, v, unfenced))
	must(b.t, d.Test(b.t.Context(), s, v))
}

// TestPreflightProblems breaks one thing at a time and follows the remedy.
func TestPreflightProblems(t *testing.T) {
	for name, spoil := range map[string]string{
		"no login":        `ALTER ROLE %[1]s NOLOGIN`,
		"expired":         `ALTER ROLE %[1]s VALID UNTIL '2020-01-01'`,
		"limit":           `ALTER ROLE %[1]s CONNECTION LIMIT 0`,
		"superuser":       `ALTER ROLE %[1]s SUPERUSER`,
		"member of more":  `CREATE ROLE %[3]s; GRANT %[3]s TO %[1]s`,
		"member of other": `CREATE ROLE %[3]s; GRANT %[3]s TO %[2]s`,
		"weak admin":      `ALTER ROLE %[4]s NOCREATEROLE`,
		"dropped":         `DROP ROLE %[1]s`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, shared)
			users := b.pair(unique("a"), unique("b"))
			d, s := b.database(DatabaseConfig{Usernames: users})
			b.sql(spoil+"; --%[1]s%[2]s%[3]s%[4]s", users[0], users[1], unique("group"), b.admin.Username)
			if ran := b.followUntilContent(d, &s); len(ran) == 0 {
				t.Error("nothing was wrong")
			}
		})
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
			b := newBench(t, shared)
			users := b.pair(unique("a"), unique("b"))
			d, s := b.database(DatabaseConfig{Usernames: users})
			b.sql(test.spoil+"; --%[1]s%[2]s%[3]s", users[0], users[1], unique("thing"))
			v, err := d.Create(t.Context(), s)
			must(t, err)
			findings, err := d.Preflight(t.Context(), s, v)
			must(t, err)
			if len(findings) != 1 || !strings.Contains(findings[0], test.want) || strings.Contains(findings[0], "hidden_value") {
				t.Errorf("found %q, want one thing that mentions %q", findings, test.want)
			}
		})
	}
}

func TestPreflightSeesABrokenLogin(t *testing.T) {
	b := newBench(t, shared)
	d, s := b.database(DatabaseConfig{Usernames: []string{b.user(unique("app"))}})
	s.Current = b.value(databaseMaterial(mustConfig(t, s).Usernames[0], "not this one"))
	v, err := d.Create(t.Context(), s)
	must(t, err)
	findings, err := d.Preflight(t.Context(), s, v)
	must(t, err)
	if len(findings) != 1 || !strings.Contains(findings[0], "does not work") {
		t.Errorf("found %q", findings)
	}
	wantSecretFree(t, findings[0], s.Current.Material)
}

func mustConfig(t testing.TB, s rotation.Secret) databaseSettings {
	t.Helper()
	c, err := databaseConfig(s.Config)
	must(t, err)
	return c
}

// TestDryRunIsDry tries to smuggle a COMMIT into the transaction that Preflight
// rolls back.
func TestDryRunIsDry(t *testing.T) {
	b := newBench(t, shared)
	user := b.user(unique("app"))
	for _, smuggler := range []string{
		"ALTER ROLE {{name}} PASSWORD {{password}}; COMMIT",
		"DO $$ BEGIN COMMIT; END $$",
		"ALTER ROLE {{name}} PASSWORD {{password}}",
	} {
		d, s := b.database(DatabaseConfig{Usernames: []string{user}, RotationStatements: []string{"ALTER ROLE {{name}} PASSWORD {{password}}", smuggler}})
		v, err := d.Create(t.Context(), s)
		must(t, err)
		_, err = d.Preflight(t.Context(), s, v)
		if honest := !strings.Contains(smuggler, "COMMIT"); honest != (err == nil) {
			t.Errorf("%s: %v", smuggler, err)
		}
		wantRefused(t, d.Test(t.Context(), s, v))
	}
}

func TestManagedAdminIsRefused(t *testing.T) {
	b := newBench(t, shared)
	b.sql("ALTER ROLE %s CREATEROLE", b.admin.Username)
	d, s := b.database(DatabaseConfig{Usernames: []string{b.admin.Username}})
	v, err := d.Create(t.Context(), s)
	must(t, err)
	_, err = d.Preflight(t.Context(), s, v)
	wantInvalid(t, err, "administrator")
	wantInvalid(t, d.Set(t.Context(), s, v, unfenced), "administrator")
	must(t, b.server(nil).try(t.Context(), b.admin))
}
