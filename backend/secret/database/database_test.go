package database

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func TestDatabaseConfig(t *testing.T) {
	long := strings.Repeat("x", 64)
	for name, test := range map[string]struct {
		config Config
		words  []string
	}{
		"no connection":    {Config{Usernames: []string{"a"}}, []string{"connection"}},
		"no users":         {Config{Connection: "c"}, []string{"usernames", "empty"}},
		"empty user":       {Config{Connection: "c", Usernames: []string{""}}, []string{"usernames"}},
		"long user":        {Config{Connection: "c", Usernames: []string{long}}, []string{"usernames", "63"}},
		"NUL":              {Config{Connection: "c", Usernames: []string{"a\x00b"}}, []string{"usernames", "NUL"}},
		"line":             {Config{Connection: "c", Usernames: []string{"a\nb"}}, []string{"usernames", "control"}},
		"twice":            {Config{Connection: "c", Usernames: []string{"a", "a"}}, []string{"usernames", "twice"}},
		"three":            {Config{Connection: "c", Usernames: []string{"a", "b", "c"}}, []string{"usernames"}},
		"single of two":    {Config{Connection: "c", RotationStrategy: SingleUser, Usernames: []string{"a", "b"}}, []string{"usernames", AlternatingUsers}},
		"alternating one":  {Config{Connection: "c", RotationStrategy: AlternatingUsers, Usernames: []string{"a"}}, []string{"usernames", SingleUser}},
		"strategy":         {Config{Connection: "c", RotationStrategy: "both", Usernames: []string{"a"}}, []string{"rotation_strategy", SingleUser}},
		"empty statement":  {Config{Connection: "c", Usernames: []string{"a"}, VerificationStatements: []string{" "}}, []string{"verification_statements"}},
		"verified COMMIT":  {Config{Connection: "c", Usernames: []string{"a"}, VerificationStatements: []string{"/* x */ commit"}}, []string{"verification_statements", "COMMIT"}},
		"no password":      {Config{Connection: "c", Usernames: []string{"a"}, RotationStatements: []string{"SELECT {{name}}"}}, []string{"rotation_statements", "{{password}}"}},
		"bad placeholder":  {Config{Connection: "c", Usernames: []string{"a"}, RotationStatements: []string{"SELECT 1", "SELECT 'x{{password}}'"}}, []string{"rotation_statements", "number 2"}},
		"statement size":   {Config{Connection: "c", Usernames: []string{"a"}, VerificationStatements: []string{strings.Repeat("x", 1<<20)}}, []string{"verification_statements"}},
		"statement number": {Config{Connection: "c", Usernames: []string{"a"}, VerificationStatements: make([]string, 33)}, []string{"verification_statements", "32"}},
		"policy":           {Config{Connection: "c", Usernames: []string{"a"}, PasswordPolicy: "a\tb"}, []string{"password_policy"}},
	} {
		t.Run(name, func(t *testing.T) {
			expect.Invalid(t, (&driver{}).Validate(conformance.SecretOf(t, "database", test.config).Config), test.words...)
		})
	}
}

func TestDatabaseUpdate(t *testing.T) {
	old := Config{Connection: "c", Usernames: []string{"a", "b"}}
	for field, updated := range map[string]Config{
		"connection":        {Connection: "d", Usernames: old.Usernames},
		"rotation_strategy": {Connection: "c", Usernames: []string{"a"}},
		"usernames":         {Connection: "c", Usernames: []string{"b", "c"}},
		"":                  {Connection: "c", Usernames: old.Usernames, RotationStrategy: AlternatingUsers, PasswordPolicy: "p"},
	} {
		err := (&driver{}).ValidateUpdate(conformance.SecretOf(t, "", old).Config, conformance.SecretOf(t, "", updated).Config)
		if field == "" {
			expect.OK(t, err)
		} else {
			expect.Invalid(t, err, field)
		}
	}
}

// TestOrderOfUsers: which of two users is in use does not follow from their order.
func TestOrderOfUsers(t *testing.T) {
	used := rotation.Value{Material: rotation.Material{"username": "a"}}
	for _, users := range [][]string{{"a", "b"}, {"b", "a"}} {
		config := Config{Connection: "c", Usernames: users}
		s := conformance.SecretOf(t, "database", config)
		expect.OK(t, (&driver{}).ValidateUpdate(conformance.SecretOf(t, "", Config{Connection: "c", Usernames: []string{"a", "b"}}).Config, s.Config))
		s.Current = &used
		c, err := readConfig(s.Config)
		if expect.OK(t, err); c.next(s) != "b" {
			t.Errorf("with a in use, the next of %v is %s", users, c.next(s))
		}
	}
}

// TestTestClassifies tells what says something about the value from what says
// something about the server.
func TestTestClassifies(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	user := b.User(pgtest.Unique("app"))
	try := func(statements ...string) error {
		d, s := b.database(Config{Usernames: []string{user}, VerificationStatements: statements})
		v, err := d.Create(t.Context(), s)
		expect.OK(t, err)
		expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
		return d.Test(t.Context(), s, v)
	}
	expect.OK(t, try("SELECT 1", "SELECT '{{1,2}}'::int[]"))
	expect.Refused(t, try("SELECT * FROM no_such_table"))
	expect.Refused(t, try("CREATE ROLE more"))
	expect.Refused(t, try("SELECT 1; COMMIT"))
	wantNotRefused(t, try("SELECT pg_terminate_backend(pg_backend_pid())"), "")
	wantNotRefused(t, try("DO $$ BEGIN RAISE SQLSTATE '57014'; END $$"), "57014")

	b.Connection.Settings.Database = "no_such_database"
	b.SQL("GRANT ALL ON DATABASE postgres TO %s", user)
	d, s := b.database(Config{Usernames: []string{user}})
	wantNotRefused(t, d.Test(t.Context(), s, postgres.Material(user, b.Password(user))), "3D000")
	b.Connection.Settings.Database = "postgres"
	b.SQL("ALTER ROLE %s CONNECTION LIMIT 0", user)
	wantNotRefused(t, d.Test(t.Context(), s, postgres.Material(user, b.Password(user))), "53300")
	b.SQL("ALTER ROLE %s CONNECTION LIMIT -1 NOLOGIN", user)
	expect.Refused(t, d.Test(t.Context(), s, postgres.Material(user, b.Password(user))))
}

func wantNotRefused(t *testing.T, err error, code string) {
	t.Helper()
	if err == nil || postgres.LoginRefused(err) || postgres.CodeOf(err) != code && code != "" {
		t.Fatalf("got %v, want an error %s that is no refusal", err, code)
	}
	if strings.Contains(err.Error(), rotation.ErrRefused.Error()+":") {
		t.Errorf("%v is called a refusal", err)
	}
}

// TestVerifyFindsTrust checks that a server that lets everybody in is not taken
// for one that accepts the right password.
func TestVerifyFindsTrust(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	d, s := b.database(Config{Usernames: []string{b.User("trusted_user")}})
	v, err := d.Create(t.Context(), s)
	expect.OK(t, err)
	expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
	s.Current = b.Value(v)
	proofs, err := d.Verify(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "trust") || len(proofs) > 0 {
		t.Errorf("got %v after %q", err, proofs)
	}
	b.Connection.Settings.PasswordAuthentication = postgres.AuthenticatePassword
	proofs, err = d.Verify(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "pg_hba.conf trusts") || len(proofs) == 0 {
		t.Errorf("with passwords in clear text: got %v after %q", err, proofs)
	}
	if err := d.Retire(t.Context(), s, postgres.Material("trusted_user", "old"), conformance.Unfenced); err == nil || !strings.Contains(err.Error(), "pg_hba.conf") {
		t.Errorf("retiring: %v", err)
	}
}

// TestVerifyFindsIntruders gives the idle user a password that nobody decided on.
func TestVerifyFindsIntruders(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	users := b.Pair(pgtest.Unique("a"), pgtest.Unique("b"))
	d, s := b.database(Config{Usernames: users})
	v, err := d.Create(t.Context(), s)
	expect.OK(t, err)
	expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
	s.Current = b.Value(v)
	b.SQL("ALTER ROLE %s PASSWORD %s", users[1], postgres.QuoteLiteral(v["password"]))
	if _, err := d.Verify(t.Context(), s); err == nil || !strings.Contains(err.Error(), users[1]) {
		t.Errorf("got %v, want that %s is named", err, users[1])
	}
}

// TestStandby tries to set a password where nothing can be changed.
func TestStandby(t *testing.T) {
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{})
	b := newBench(t, pg)
	d, s := b.database(Config{Usernames: []string{b.User(pgtest.Unique("app"))}})
	b.SQL("COPY (SELECT '') TO PROGRAM 'cat > standby.signal'")
	expect.OK(t, pg.Restart(t.Context()))
	v, err := d.Create(t.Context(), s)
	expect.OK(t, err)
	if err := d.Set(t.Context(), s, v, conformance.Unfenced); err == nil || !strings.Contains(err.Error(), "primary") {
		t.Errorf("got %v, want that the primary is asked for", err)
	}
}

// TestReadOnlyByDefault sets a password where transactions are read only unless they
// say otherwise.
func TestReadOnlyByDefault(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	d, s := b.database(Config{Usernames: []string{b.User(pgtest.Unique("app"))}})
	b.SQL("ALTER ROLE %s SET default_transaction_read_only = on", b.Admin.Username)
	v, err := d.Create(t.Context(), s)
	expect.OK(t, err)
	expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
	expect.OK(t, d.Test(t.Context(), s, v))
}

// TestGivenUpSetNeverLands gives up while the server waits for a lock, and
// checks that the password is not set once the lock is free.
func TestGivenUpSetNeverLands(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	user := b.User(pgtest.Unique("app"))
	d, s := b.database(Config{Usernames: []string{user}})
	v, err := d.Create(t.Context(), s)
	expect.OK(t, err)
	holder := pgtest.Connect(t, pgtest.Shared)
	_, err = holder.Exec(t.Context(), "BEGIN; ALTER ROLE "+postgres.QuoteName(user)+" CONNECTION LIMIT 5")
	expect.OK(t, err)

	watch := pgtest.Connect(t, pgtest.Shared) // before the time runs in which the server waits for a lock
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- d.Set(ctx, s, v, conformance.Unfenced) }()
	b.waits(watch)
	began := time.Now()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(began) > 30*time.Second {
		t.Errorf("got %v after %s, want that it was cancelled at once", err, time.Since(began))
	}
	_, err = holder.Exec(t.Context(), "COMMIT")
	expect.OK(t, err)
	b.Gone(watch)
	expect.Refused(t, d.Test(t.Context(), s, v))
}

// waits returns when the administrator waits for a lock.
func (b *bench) waits(watch *pgx.Conn) {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.T.Context(), 10*time.Second)
	defer cancel()
	expect.OK(b.T, testenv.Eventually(ctx, "the administrator to wait", func(ctx context.Context) error {
		var n int
		const query = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND wait_event_type = 'Lock'"
		if err := watch.QueryRow(ctx, query, b.Admin.Username).Scan(&n); err != nil || n > 0 {
			return err
		}
		return errors.New("it does not wait")
	}))
}
