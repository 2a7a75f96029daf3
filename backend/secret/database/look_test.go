package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestLook makes one thing at a time that a look can tell, on a server with a database of
// its own, and expects a look to say what a dry run says, or would if it could begin,
// and to be content when what it says was run.
func TestLook(t *testing.T) {
	for name, test := range map[string]struct {
		spoil string
		// sessions of the user are open.
		sessions int
		// alone says that a dry run can't log in to say the same.
		alone bool
	}{
		"no login":          {spoil: `ALTER ROLE {a} NOLOGIN`},
		"expired":           {spoil: `ALTER ROLE {a} VALID UNTIL '2020-01-01'`},
		"limit of 0":        {spoil: `ALTER ROLE {a} CONNECTION LIMIT 0`},
		"limit used up":     {spoil: `ALTER ROLE {a} CONNECTION LIMIT 2`, sessions: 2},
		"no CONNECT":        {spoil: `REVOKE CONNECT ON DATABASE {db} FROM {a}, {owner}`},
		"no CREATEROLE":     {spoil: `ALTER ROLE {admin} NOCREATEROLE`},
		"several":           {spoil: `ALTER ROLE {a} NOLOGIN VALID UNTIL '2020-01-01'`},
		"closed":            {spoil: `ALTER DATABASE {db} ALLOW_CONNECTIONS false`, alone: true},
		"closed by a limit": {spoil: `ALTER DATABASE {db} CONNECTION LIMIT 0`, alone: true},
		"gone":              {spoil: `DROP OWNED BY {a}; DROP ROLE {a}`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t, pgtest.Shared, pgtest.Unique("db"), "app", fault{configure: func(_ *bench, c *Config) { c.Usernames = c.Usernames[:1] }})
			p.SQL("ALTER ROLE %s PASSWORD %s", p.names.Replace("{a}"), postgres.QuoteLiteral(p.userPassword))
			p.secret.Current = p.Value(postgres.Material(mustConfig(t, p.secret).Usernames[0], p.userPassword))
			v, err := p.Create(t.Context(), p.secret)
			expect.OK(t, err)
			expect.OK(t, p.Look(t.Context(), p.secret, v))
			for range test.sessions {
				p.session()
			}
			expect.OK(t, p.PG.Exec(t.Context(), p.names.Replace(test.spoil)))
			before := p.catalog2()
			err = p.Look(t.Context(), p.secret, v)
			expect.Invalid(t, err, "run: ")
			if after := p.catalog2(); after != before {
				t.Error("to look has changed the catalog")
			}
			if !test.alone {
				if _, dry := p.Preflight(t.Context(), p.secret, v); dry == nil || dry.Error() != err.Error() {
					t.Errorf("a dry run says\n%v\nand a look\n%v", dry, err)
				}
			}
			if name != "gone" { // for who makes the user has to allow more
				p.follow(err)
				expect.OK(t, p.Look(t.Context(), p.secret, v))
			}
		})
	}
}

// catalog2 is catalog from another database, for one that is closed.
func (p *patient) catalog2() (all string) {
	p.T.Helper()
	expect.OK(p.T, pgtest.Connect(p.T, p.PG).QueryRow(p.T.Context(), `SELECT concat((SELECT string_agg(concat(xmin, a), ' ' ORDER BY oid) FROM pg_authid a), (SELECT string_agg(concat(xmin, d), ' ' ORDER BY oid) FROM pg_database d))`).Scan(&all))
	return all
}

// TestLookIsOneQuery counts what a server is sent beyond what every transaction is.
func TestLookIsOneQuery(t *testing.T) {
	b := newBench(t, testenv.NewPostgres(t, testenv.PostgresOptions{}))
	d, s := b.database(Config{Usernames: []string{b.User(pgtest.Unique("app"))}})
	v := b.next(d, s)
	expect.OK(t, d.Look(t.Context(), s, v))
	before := b.statements()
	expect.OK(t, d.Look(t.Context(), s, v))
	if got := b.statements() - before; got != 3 { // with the begin and the end of its transaction
		t.Errorf("a look is %d statements", got)
	}
}

// statements is how many the log of the server tells of.
func (b *bench) statements() int {
	b.T.Helper()
	log, err := os.ReadFile(b.PG.LogPath)
	expect.OK(b.T, err)
	return strings.Count(string(log), "  statement: ") + strings.Count(string(log), "  execute <unnamed>: ")
}

// TestLookAtStandbys is about those who have to confirm a commit.
func TestLookAtStandbys(t *testing.T) {
	for _, major := range []int{15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, testenv.NewPostgres(t, testenv.PostgresOptions{Major: major}))
			d, s := b.database(Config{Usernames: []string{b.User("app")}})
			v := b.next(d, s)
			expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
			s.Current = b.Value(v)
			for names, missing := range map[string]int{"ghost": 1, "*": 1, "FIRST 2 (a, b)": 2, "any 3 (a, b, c)": 3, "2 (a, b)": 2} {
				b.waitsFor(names)
				err := d.Look(t.Context(), s, v)
				expect.Invalid(t, err, "synchronous_standby_names", fmt.Sprintf("of which %d are not connected", missing), `SET synchronous_commit = local;`)
				if _, dry := d.Preflight(t.Context(), s, v); dry == nil || dry.Error() != err.Error() {
					t.Errorf("a dry run says\n%v\nand a look\n%v", dry, err)
				}
				found := d.Inspect(t.Context(), s, preflight.Subject{Until: b.Now})
				if found.Ready() || len(of(found, "database.synchronous_standby")) != 1 {
					t.Errorf("verify finds %+v", found.Open())
				}
			}
			admin := conformance.SecretOf(t, "connection", b.Config())
			m, err := ImportAdmin(b.Admin.Username, b.Admin.Password)
			expect.OK(t, err)
			admin.Current = b.Value(m)
			began := time.Now()
			err = NewAdmin(b.Postgres).Set(t.Context(), admin, postgres.Material(b.Admin.Username, "another"), conformance.Unfenced)
			expect.Invalid(t, err, "synchronous_standby_names")
			if !errors.Is(err, rotation.ErrUnchanged) || time.Since(began) > time.Minute {
				t.Errorf("after %s, what the server holds is not known: %v", time.Since(began), err)
			}
			fix := remedy.FindStringSubmatch(d.Look(t.Context(), s, v).Error())[1]
			b.SQL("SET synchronous_commit = local; %s", fix)
			b.Postgres.Forget("main") // sessions have the settings that they began with
			expect.OK(t, d.Look(t.Context(), s, v))
			expect.OK(t, NewAdmin(b.Postgres).Set(t.Context(), admin, postgres.Material(b.Admin.Username, b.Admin.Password), conformance.Unfenced))
		})
	}
}

// waitsFor makes commits wait for the confirmation of these standbys, of which there
// are none, and returns when they do.
func (b *bench) waitsFor(names string) {
	b.T.Helper()
	b.SQL("ALTER SYSTEM SET synchronous_standby_names = %s", postgres.QuoteLiteral(names))
	b.SQL("SELECT pg_reload_conf()")
	committing, watch := pgtest.Connect(b.T, b.PG), pgtest.Connect(b.T, b.PG)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.T.Context()), 20*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && ctx.Err() == nil { // until it waits, and is ended
			_, err = committing.Exec(ctx, "SELECT pg_logical_emit_message(true, 'test', 'x')")
		}
		ended <- err
	}()
	expect.OK(b.T, testenv.Eventually(ctx, "a commit to wait", func(ctx context.Context) error {
		var n int
		err := watch.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND current_setting('synchronous_standby_names') = $1", names).Scan(&n)
		if err == nil && n == 0 {
			err = errors.New("it does not wait")
		}
		return err
	}))
	b.SQL("SELECT pg_terminate_backend(%d)", committing.PgConn().PID())
	if err := <-ended; err == nil {
		b.T.Error("the commit that waited says that it was not ended")
	}
}

// TestCommitWithoutStandbys changes passwords, and puts them back, on servers whose
// standbys have gone since anybody looked: the end comes soon, and is right.
func TestCommitWithoutStandbys(t *testing.T) {
	for _, major := range []int{15, 18} {
		for _, name := range []string{"single user", "alternating users", "connection"} {
			t.Run(fmt.Sprint(name, " ", major), func(t *testing.T) {
				t.Parallel()
				s := subjectAt(t, name, testenv.NewPostgres(t, testenv.PostgresOptions{Major: major}))
				one := s.First()
				two := s.Make()
				s.Secret.Pending = s.Value(two)
				s.waitsFor("ghost")
				began := time.Now()
				if a, ok := s.Values.(*admin); ok {
					expect.OK(t, a.replace(t.Context(), s.Secret, one, two, conformance.Unfenced, dontLook)) // they have gone since it looked
				} else {
					expect.OK(t, s.Set(t.Context(), s.Secret, two, conformance.Unfenced))
				}
				if took := time.Since(began); took > time.Minute {
					t.Errorf("the change took %s", took)
				}
				s.Accepted(two)
				began = time.Now()
				expect.OK(t, s.Undo(t.Context(), s.Secret, conformance.Unfenced))
				if took := time.Since(began); took > time.Minute {
					t.Errorf("to put it back took %s", took)
				}
				s.Accepted(one)
				s.Refused(two)
			})
		}
	}
}

// subjectAt is one of the subjects at a server of its own.
func subjectAt(t *testing.T, name string, pg *testenv.Postgres) *subject {
	t.Helper()
	b := newBench(t, pg)
	if name == "connection" {
		s := conformance.SecretOf(t, "connection", b.Config())
		m, err := ImportAdmin(b.Admin.Username, b.Admin.Password)
		expect.OK(t, err)
		s.Current = b.Value(m)
		return b.at(NewAdmin(b.Postgres), s)
	}
	c := Config{Usernames: []string{b.User(pgtest.Unique("app"))}}
	if name == "alternating users" {
		c.Usernames = b.Pair(pgtest.Unique("a"), pgtest.Unique("b"))
	}
	d, s := b.database(c)
	return b.at(d, s)
}

// TestLookNeedsTheServer can't be made where that is not reached, which is no refusal.
func TestLookNeedsTheServer(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	d, s := b.database(Config{Usernames: []string{b.User(pgtest.Unique("app"))}})
	v := b.next(d, s)
	b.Connection.Settings.Port = 1
	if err := d.Look(t.Context(), s, v); err == nil || errors.Is(err, rotation.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// TestTriedWhileOthersChange has somebody else change the user while its password is
// tried: PostgreSQL ends that transaction, and the engine tries again.
func TestTriedWhileOthersChange(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	user := b.User(pgtest.Unique("app"))
	d, s := b.database(Config{Usernames: []string{user}})
	v := b.next(d, s)
	holder := pgtest.Connect(t, pgtest.Shared)
	_, err := holder.Exec(t.Context(), "BEGIN; ALTER ROLE "+postgres.QuoteName(user)+" CONNECTION LIMIT 5")
	expect.OK(t, err)
	watch := pgtest.Connect(t, pgtest.Shared) // before the time runs in which the server waits for a lock
	ended := make(chan error)
	go func() {
		_, err := d.Preflight(t.Context(), s, v)
		ended <- err
	}()
	b.waits(watch)
	_, err = holder.Exec(t.Context(), "COMMIT")
	expect.OK(t, err)
	expect.OK(t, <-ended)
}

// TestInspectWithout takes away what is looked at, one thing at a time, so that each
// query fails in turn: what could not be looked at is not ready.
func TestInspectWithout(t *testing.T) {
	p := newPatient(t, pgtest.Shared, pgtest.Unique("db"), "app", fault{})
	whole := p.look().Passed()
	for _, thing := range []string{
		"SELECT ON TABLE pg_roles", "SELECT ON TABLE pg_database", "SELECT ON TABLE pg_stat_activity", "SELECT ON TABLE pg_auth_members", "SELECT ON TABLE pg_shdepend",
		"SELECT ON TABLE pg_db_role_setting", "SELECT ON TABLE pg_namespace", "SELECT ON TABLE pg_default_acl", "SELECT ON TABLE pg_class", "SELECT ON TABLE pg_proc",
		"SELECT ON TABLE pg_attribute", "SELECT ON TABLE pg_type", "EXECUTE ON FUNCTION clock_timestamp()", "EXECUTE ON FUNCTION pg_show_all_settings()",
		"EXECUTE ON FUNCTION pg_stat_get_wal_senders()", "EXECUTE ON FUNCTION aclexplode(aclitem[])", "EXECUTE ON FUNCTION pg_is_in_recovery()", "EXECUTE ON FUNCTION now()",
	} {
		p.psql("REVOKE " + thing + " FROM PUBLIC")
		found := p.lookOnly()
		if found.Ready() {
			t.Errorf("without %s it is ready, with %d of %d passed: %+v", thing, len(found.Passed()), len(whole), found.Open())
		}
		p.psql("GRANT " + thing + " TO PUBLIC")
	}
	if found := p.lookOnly(); !found.Ready() || len(found.Passed()) != len(whole) {
		t.Errorf("with all of it there is found %+v", found.Open())
	}
	for _, setting := range []string{"DateStyle = 'SQL, DMY'", "role = " + p.names.Replace("{owner}"), "default_transaction_read_only = on"} {
		p.psql(p.names.Replace("GRANT {owner} TO {admin}; ALTER ROLE {admin} RESET ALL; ALTER ROLE {admin} SET " + setting))
		if found := p.lookOnly(); !found.Ready() || len(found.Passed()) != len(whole) {
			t.Errorf("with %s there is found %+v", setting, found.Open())
		}
	}
}

// lookOnly is look without a comparison of the catalog.
func (p *patient) lookOnly() preflight.Report {
	p.Now = time.Now() // as the server's clock has it
	return p.Inspect(p.T.Context(), p.secret, preflight.Subject{Mount: "smvm/", Role: "r", Until: p.Now.Add(60 * 24 * time.Hour)})
}
