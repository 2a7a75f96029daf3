package database

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// ambush is a bench whose database lies in wait for the administrator.
type ambush struct {
	*bench
	hostile *testenv.Hostile
	users   []string
	// passwords are those that were set.
	passwords *[]string
}

// lures are what every administrator says sooner or later.
var lures = []string{
	"SELECT pg_terminate_backend(0, 1000)",
	"SELECT usename FROM pg_stat_activity WHERE usename = 'nobody'::text",
	"SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'",
	"SELECT 'a'::text",
}

// TestHostileDatabase does everything that the engine does at PostgreSQL in a database
// whose owner has shadowed all that a statement could mean: on each major version,
// directly and through PgBouncer, where the owner has only made things, and where it has
// also set whatever can be set. Not one shadow may be used.
func TestHostileDatabase(t *testing.T) {
	for major := 14; major <= 18; major++ {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			a := newAmbush(t, testenv.NewPostgres(t, testenv.PostgresOptions{Major: major, Settings: map[string]string{"log_statement": "none"}}))
			direct, bouncer := a.PG.Port, testenv.NewBouncer(t, a.PG)
			ways := func(name string) {
				for way, port := range map[string]int{"direct": direct, "through PgBouncer": bouncer} {
					a.Connection.Settings.Port = port
					t.Run(name+", "+way, func(t *testing.T) { a.on(t).everything() })
				}
			}
			a.control("made")
			ways("made")
			spoilt := a.hostile.Spoil(a.users, "local_preload_libraries")
			a.decided(spoilt)
			a.control("made and set")
			ways("made and set")
			a.quiet()
		})
	}
}

func newAmbush(t *testing.T, pg *testenv.Postgres) *ambush {
	a := &ambush{bench: newBench(t, pg), passwords: new([]string)}
	owner := pgtest.Unique("owner")
	a.SQL("CREATE ROLE %s", owner)
	for _, name := range []string{pgtest.Unique("app"), pgtest.Unique(`Robert"; DROP ROLE x;--`), pgtest.Unique(`O'Brien \ é 表`), pgtest.Unique("set"), pgtest.Unique("clear")} {
		a.users = append(a.users, a.User(name))
		a.SQL("GRANT %s TO %s", owner, postgres.QuoteName(name))
	}
	a.SQL("GRANT pg_signal_backend, pg_read_all_stats TO %s", postgres.QuoteName(a.Admin.Username))
	a.hostile = testenv.NewHostile(t, pg, a.Admin.Username, owner)
	a.Connection.Settings.Database = a.hostile.Database
	a.hostile.SQL(fmt.Sprintf(`CREATE SCHEMA genuine; GRANT USAGE ON SCHEMA genuine TO PUBLIC;
		CREATE FUNCTION genuine.set_password(name text, password text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS
		$$ BEGIN EXECUTE format('ALTER ROLE %%I PASSWORD %%L', name, password); END $$;
		CREATE FUNCTION genuine.guarded(name text, password text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS
		$$ BEGIN ASSERT name = 'another'; PERFORM genuine.set_password(name, password); END $$;
		CREATE FUNCTION evil.set_password(name text, password text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.called('set_password'); END $$;
		CREATE FUNCTION public.set_password(name text, password text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.called('set_password'); END $$;
		CREATE FUNCTION %s.set_password(name text, password text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.called('set_password'); END $$`, postgres.QuoteName(a.Admin.Username)))
	return a
}

// on is the same for a subtest.
func (a *ambush) on(t *testing.T) *ambush {
	b := *a.Bench
	b.T = t
	b.Connection = a.Connection
	b.Postgres = postgres.New(func(string) (postgres.Connection, error) { return b.Connection, nil }, b.Owners)
	b.Postgres.Now = time.Now
	t.Cleanup(b.Postgres.Close)
	return &ambush{&bench{&b}, a.hostile, a.users, a.passwords}
}

// control sees that the shadows are used by a session without protection: without that
// the test proves nothing.
func (a *ambush) control(when string) {
	a.T.Helper()
	a.hostile.Lured(a.Admin.Password, lures...)
	if calls := a.hostile.Calls(); len(calls) < 2 || !slices.Contains(calls, "the sequence") {
		a.T.Fatalf("%s: only %q was used by a session without protection", when, calls)
	}
}

// unharmed expects an operation to work, and to use no shadow.
func (a *ambush) unharmed(operation string, err error) {
	a.T.Helper()
	if err != nil {
		a.T.Errorf("%s: %v", operation, err)
	}
	if calls := a.hostile.Calls(); len(calls) > 0 {
		a.T.Errorf("%s has run, as the administrator: %q", operation, calls)
	}
}

func (a *ambush) everything() {
	a.settings()
	a.life("single user", Config{Usernames: a.users[:1], OnOverlapEnd: "terminate", VerificationStatements: []string{"SELECT 1"}})
	a.life("alternating users", Config{Usernames: a.users[1:3], OnOverlapEnd: "terminate"})
	a.life("rotation statements", Config{Usernames: a.users[3:4], RotationStatements: []string{"SELECT genuine.set_password('{{username}}', {{password}})"}})
	a.misnamed()
	a.guarded()
	a.Connection.Settings.PasswordAuthentication = postgres.AuthenticatePassword
	a.life("clear text", Config{Usernames: a.users[4:]})
	if !a.has("pg_authid WHERE rolname = " + postgres.QuoteLiteral(a.users[4]) + " AND rolpassword LIKE 'SCRAM-SHA-256$4096:%'") {
		a.T.Error("a password in clear text was stored in another way")
	}
	a.Connection.Settings.PasswordAuthentication = ""
	a.privileges()
	a.root()
	if a.Connection.Settings.Port == a.PG.Port {
		a.preloaded()
		a.greeted()
	}
}

// privileges is what the engine explains when it lacks some.
func (a *ambush) privileges() {
	a.T.Helper()
	user, admin := postgres.QuoteName(a.users[0]), postgres.QuoteName(a.Admin.Username)
	a.SQL("ALTER ROLE %s SUPERUSER; REVOKE pg_signal_backend FROM %s", user, admin)
	d, s := a.database(Config{Usernames: a.users[:1], OnOverlapEnd: "terminate"})
	err := d.Set(a.T.Context(), s, postgres.Material(a.users[0], "x"), conformance.Unfenced)
	if err == nil || !strings.Contains(err.Error(), "is a superuser") {
		a.T.Errorf("without privileges: %v", err)
	}
	a.unharmed("explain a refusal", nil)
	a.SQL("ALTER ROLE %s NOSUPERUSER", user)
	if _, err := d.Preflight(a.T.Context(), s, postgres.Material(a.users[0], "x")); err == nil || !strings.Contains(err.Error(), "pg_signal_backend") {
		a.T.Errorf("without pg_signal_backend: %v", err)
	}
	a.unharmed("explain what terminating needs", nil)
	a.SQL("GRANT pg_signal_backend TO %s", admin)
}

// root rotates the administrator.
func (a *ambush) root() {
	a.T.Helper()
	root, s := NewAdmin(a.Postgres), conformance.SecretOf(a.T, "connection", a.Connection.Settings)
	first, err := ImportAdmin(a.Admin.Username, a.Admin.Password)
	expect.OK(a.T, err)
	a.unharmed("connection: test", root.Test(a.T.Context(), s, first))
	s.Current = a.Value(first)
	next, err := root.Create(a.T.Context(), s)
	expect.OK(a.T, err)
	_, err = secret.Try(a.T.Context(), root, s, next)
	a.unharmed("connection: dry run", err)
	s.Pending = a.Value(next)
	a.unharmed("connection: rotate", root.Set(a.T.Context(), s, next, conformance.Unfenced))
	_, err = root.Verify(a.T.Context(), rotation.Secret{Type: s.Type, Config: s.Config, Current: s.Pending, Previous: s.Current})
	a.unharmed("connection: verify", err)
	a.unharmed("connection: take back", root.Undo(a.T.Context(), s, conformance.Unfenced))
	a.Accept(a.Admin) // again, where a refusal proves nothing
	a.unharmed("connection: retire", root.Retire(a.T.Context(), s, next, conformance.Unfenced))
}

// quiet looks for passwords in the server's log, where debug_print_parse and the like
// write what statements are made of, and the server then adds the statement.
func (a *ambush) quiet() {
	a.T.Helper()
	leaked := "leaked" + postgres.RandomPassword()
	a.hostile.Lured(a.Admin.Password, postgres.AlterPassword(a.Admin.Username, leaked))
	log, err := os.ReadFile(a.PG.LogPath)
	expect.OK(a.T, err)
	for _, password := range *a.passwords {
		if strings.Contains(string(log), password) {
			a.T.Error("the log has a password that was set")
		}
	}
	if !strings.Contains(string(log), leaked) || len(*a.passwords) == 0 {
		a.T.Error("the log has not even the password of a session without protection")
	}
}
