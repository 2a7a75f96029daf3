package database

import (
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

// preloaded has sessions begin with a library that is not there. Only who logs in
// can do without it: through PgBouncer that is PgBouncer.
func (a *ambush) preloaded() {
	a.T.Helper()
	admin := postgres.QuoteName(a.Admin.Username)
	a.SQL("ALTER ROLE %s SET local_preload_libraries = 'not_there'", admin)
	a.Postgres.Forget("main")
	nothing := func(*pgx.Conn, postgres.Server) error { return nil }
	a.unharmed("a library of others", a.Postgres.Administer(a.T.Context(), "main", postgres.Rollback, nothing))
	a.unharmed("a library of others, to look", a.Postgres.Look(a.T.Context(), "main", nothing))
	a.SQL("ALTER ROLE %s RESET local_preload_libraries", admin)
}

// misnamed calls a function without saying which.
func (a *ambush) misnamed() {
	a.T.Helper()
	d, s := a.database(Config{Usernames: a.users[3:4], RotationStatements: []string{"SELECT set_password('{{username}}', {{password}})"}})
	v, err := d.Create(a.T.Context(), s)
	expect.OK(a.T, err)
	if err := d.Set(a.T.Context(), s, v, conformance.Unfenced); err == nil || !strings.Contains(err.Error(), "with their schema") {
		a.T.Errorf("an unqualified name: %v", err)
	}
	a.unharmed("an unqualified name", nil)
}

// greeted has a superuser do something at each login that means what the database's
// owner says. Only who logs in can do without it, as above.
func (a *ambush) greeted() {
	a.T.Helper()
	if a.PG.Version < 170000 {
		return
	}
	a.hostile.SQL(`CREATE FUNCTION genuine.greet() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(0, 1000); END $$;
		CREATE EVENT TRIGGER greet ON login EXECUTE FUNCTION genuine.greet()`)
	a.hostile.Lured(a.Admin.Password, "SELECT")
	if len(a.hostile.Calls()) == 0 {
		a.T.Error("a login without protection has used nothing")
	}
	a.Postgres.Forget("main")
	nothing := func(*pgx.Conn, postgres.Server) error { return nil }
	a.unharmed("log in", a.Postgres.Administer(a.T.Context(), "main", postgres.Rollback, nothing))
	a.unharmed("log in to look", a.Postgres.Look(a.T.Context(), "main", nothing))
	a.root()
	a.hostile.SQL("DROP EVENT TRIGGER greet; DROP FUNCTION genuine.greet()")
}

// guarded calls a function that asserts something which is not so.
func (a *ambush) guarded() {
	a.T.Helper()
	d, s := a.database(Config{Usernames: a.users[3:4], RotationStatements: []string{"SELECT genuine.guarded('{{username}}', {{password}})"}})
	v, err := d.Create(a.T.Context(), s)
	expect.OK(a.T, err)
	if err := d.Set(a.T.Context(), s, v, conformance.Unfenced); err == nil || !strings.Contains(err.Error(), "P0004") {
		a.T.Errorf("an assertion: %v", err)
	}
	a.unharmed("an assertion", nil)
}
