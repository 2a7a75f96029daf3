package database

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

// TestTrialIsTheApplications runs verification statements with the settings of the user
// that is tried, not with those of the administrator.
func TestTrialIsTheApplications(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	user, schema := b.User(pgtest.Unique("app")), pgtest.Unique("theirs")
	b.SQL(`CREATE SCHEMA %[2]s AUTHORIZATION %[1]s; CREATE TABLE %[2]s.orders (n int); ALTER TABLE %[2]s.orders OWNER TO %[1]s;
		ALTER ROLE %[1]s SET search_path = %[2]s; ALTER ROLE %[1]s SET default_transaction_read_only = on`, user, schema)
	d, s := b.database(Config{Usernames: []string{user}, VerificationStatements: []string{"SELECT n FROM orders"}})
	v := b.next(d, s)
	expect.OK(t, d.Test(t.Context(), s, v))
	d, s = b.database(Config{Usernames: []string{user}, VerificationStatements: []string{"INSERT INTO orders VALUES (1)"}})
	expect.Refused(t, d.Test(t.Context(), s, v))
}

// TestTrialEnds lets the application do what it can so that the proof of its login does
// not end: no limit of its own, and a statement that waits.
func TestTrialEnds(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	user := b.User(pgtest.Unique("app"))
	for _, setting := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		b.SQL("ALTER ROLE %s SET %s = 0", user, setting)
	}
	d, s := b.database(Config{Usernames: []string{user}, VerificationStatements: []string{"SELECT pg_sleep(3600)"}})
	v := b.next(d, s)
	began := time.Now()
	if err := d.Test(t.Context(), s, v); err == nil {
		t.Error("a statement that waits for an hour is fine")
	}
	if took := time.Since(began); took > 2*postgres.CallTimeout {
		t.Errorf("the proof took %s", took)
	}
}

// TestTrialKeepsNothing has statements try to end the transaction around them, so that
// the next one would give the user a password that whoever wrote them knows.
func TestTrialKeepsNothing(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	user := b.User(pgtest.Unique("app"))
	for _, end := range []string{
		"COMMIT", ";COMMIT", "/* ; */;-- \n; COMMIT", "; ROLLBACK", ";END", ";ABORT", ";COMMIT AND CHAIN", "\ufeffCOMMIT", "\u00a0COMMIT", "\v;\fCOMMIT",
		";PREPARE TRANSACTION 'x'", "DO $$ BEGIN COMMIT; END $$", "SELECT 1; COMMIT",
	} {
		change := "ALTER ROLE CURRENT_USER PASSWORD 'known'"
		for _, statements := range [][]string{{end, change}, {change, end}} {
			d, s := b.database(Config{Usernames: []string{user}})
			v := b.next(d, s)
			d, s = b.database(Config{Usernames: []string{user}, VerificationStatements: statements})
			if d.Validate(s.Config) == nil && d.Test(t.Context(), s, v) == nil {
				t.Errorf("%q: nothing is wrong with them", statements)
			}
			if conn, err := pgx.Connect(t.Context(), pgtest.Shared.DSN(user, "known", "postgres")); err == nil {
				_ = conn.Close(context.Background())
				t.Errorf("%q: the user has the password that they set", statements)
			}
		}
	}
}
