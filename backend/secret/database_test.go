package secret

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func TestDatabaseConfig(t *testing.T) {
	long := strings.Repeat("x", 64)
	for name, test := range map[string]struct {
		config DatabaseConfig
		words  []string
	}{
		"no connection":    {DatabaseConfig{Usernames: []string{"a"}}, []string{"connection"}},
		"no users":         {DatabaseConfig{Connection: "c"}, []string{"usernames", "empty"}},
		"empty user":       {DatabaseConfig{Connection: "c", Usernames: []string{""}}, []string{"usernames"}},
		"long user":        {DatabaseConfig{Connection: "c", Usernames: []string{long}}, []string{"usernames", "63"}},
		"NUL":              {DatabaseConfig{Connection: "c", Usernames: []string{"a\x00b"}}, []string{"usernames", "NUL"}},
		"line":             {DatabaseConfig{Connection: "c", Usernames: []string{"a\nb"}}, []string{"usernames", "control"}},
		"twice":            {DatabaseConfig{Connection: "c", Usernames: []string{"a", "a"}}, []string{"usernames", "twice"}},
		"three":            {DatabaseConfig{Connection: "c", Usernames: []string{"a", "b", "c"}}, []string{"usernames"}},
		"single of two":    {DatabaseConfig{Connection: "c", RotationStrategy: SingleUser, Usernames: []string{"a", "b"}}, []string{"usernames", AlternatingUsers}},
		"alternating one":  {DatabaseConfig{Connection: "c", RotationStrategy: AlternatingUsers, Usernames: []string{"a"}}, []string{"usernames", SingleUser}},
		"strategy":         {DatabaseConfig{Connection: "c", RotationStrategy: "both", Usernames: []string{"a"}}, []string{"rotation_strategy", SingleUser}},
		"empty statement":  {DatabaseConfig{Connection: "c", Usernames: []string{"a"}, VerificationStatements: []string{" "}}, []string{"verification_statements"}},
		"verified COMMIT":  {DatabaseConfig{Connection: "c", Usernames: []string{"a"}, VerificationStatements: []string{"/* x */ commit"}}, []string{"verification_statements", "COMMIT"}},
		"no password":      {DatabaseConfig{Connection: "c", Usernames: []string{"a"}, RotationStatements: []string{"SELECT {{name}}"}}, []string{"rotation_statements", "{{password}}"}},
		"bad placeholder":  {DatabaseConfig{Connection: "c", Usernames: []string{"a"}, RotationStatements: []string{"SELECT 1", "SELECT 'x{{password}}'"}}, []string{"rotation_statements", "number 2"}},
		"statement size":   {DatabaseConfig{Connection: "c", Usernames: []string{"a"}, VerificationStatements: []string{strings.Repeat("x", 1<<20)}}, []string{"verification_statements"}},
		"statement number": {DatabaseConfig{Connection: "c", Usernames: []string{"a"}, VerificationStatements: make([]string, 33)}, []string{"verification_statements", "32"}},
		"policy":           {DatabaseConfig{Connection: "c", Usernames: []string{"a"}, PasswordPolicy: "a\tb"}, []string{"password_policy"}},
	} {
		t.Run(name, func(t *testing.T) {
			wantInvalid(t, (&database{}).Validate(secretOf(t, "database", test.config).Config), test.words...)
		})
	}
}

func TestDatabaseUpdate(t *testing.T) {
	old := DatabaseConfig{Connection: "c", Usernames: []string{"a", "b"}}
	for field, updated := range map[string]DatabaseConfig{
		"connection":        {Connection: "d", Usernames: old.Usernames},
		"rotation_strategy": {Connection: "c", Usernames: []string{"a"}},
		"usernames":         {Connection: "c", Usernames: []string{"b", "a"}},
		"":                  {Connection: "c", Usernames: old.Usernames, RotationStrategy: AlternatingUsers, PasswordPolicy: "p"},
	} {
		err := (&database{}).ValidateUpdate(secretOf(t, "", old).Config, secretOf(t, "", updated).Config)
		if field == "" {
			must(t, err)
		} else {
			wantInvalid(t, err, field)
		}
	}
}

// TestTestClassifies tells what says something about the value from what says
// something about the server.
func TestTestClassifies(t *testing.T) {
	b := newBench(t, shared)
	user := b.user(unique("app"))
	try := func(statements ...string) error {
		d, s := b.database(DatabaseConfig{Usernames: []string{user}, VerificationStatements: statements})
		v, err := d.Create(t.Context(), s)
		must(t, err)
		must(t, d.Set(t.Context(), s, v))
		return d.Test(t.Context(), s, v)
	}
	must(t, try("SELECT 1", "SELECT '{{1,2}}'::int[]"))
	wantRefused(t, try("SELECT * FROM no_such_table"))
	wantRefused(t, try("CREATE ROLE more"))
	wantRefused(t, try("SELECT 1; COMMIT"))
	wantNotRefused(t, try("SELECT pg_terminate_backend(pg_backend_pid())"), "")
	wantNotRefused(t, try("DO $$ BEGIN RAISE SQLSTATE '57014'; END $$"), "57014")

	b.connection.Config.Database = "no_such_database"
	b.sql("GRANT ALL ON DATABASE postgres TO %s", user)
	d, s := b.database(DatabaseConfig{Usernames: []string{user}})
	wantNotRefused(t, d.Test(t.Context(), s, databaseMaterial(user, b.password(user))), "3D000")
	b.connection.Config.Database = "postgres"
	b.sql("ALTER ROLE %s CONNECTION LIMIT 0", user)
	wantNotRefused(t, d.Test(t.Context(), s, databaseMaterial(user, b.password(user))), "53300")
	b.sql("ALTER ROLE %s CONNECTION LIMIT -1 NOLOGIN", user)
	wantRefused(t, d.Test(t.Context(), s, databaseMaterial(user, b.password(user))))
}

func wantNotRefused(t *testing.T, err error, code string) {
	t.Helper()
	if err == nil || loginRefused(err) || codeOf(err) != code && code != "" {
		t.Fatalf("got %v, want an error %s that is no refusal", err, code)
	}
	if strings.Contains(err.Error(), rotation.ErrRefused.Error()+":") {
		t.Errorf("%v is called a refusal", err)
	}
}

// password gives a user a password behind the engine's back.
func (b *bench) password(user string) string {
	b.t.Helper()
	password := randomPassword()
	b.sql("ALTER ROLE %s PASSWORD %s", quoteName(user), quoteLiteral(password))
	return password
}

// TestVerifyFindsTrust checks that a server that lets everybody in is not taken
// for one that accepts the right password.
func TestVerifyFindsTrust(t *testing.T) {
	b := newBench(t, shared)
	d, s := b.database(DatabaseConfig{Usernames: []string{b.user("trusted_user")}})
	v, err := d.Create(t.Context(), s)
	must(t, err)
	must(t, d.Set(t.Context(), s, v))
	s.Current = b.value(v)
	proofs, err := d.Verify(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "pg_hba.conf") || len(proofs) == 0 {
		t.Errorf("got %v after %q", err, proofs)
	}
	if err := d.Retire(t.Context(), s, databaseMaterial("trusted_user", "old")); err == nil || !strings.Contains(err.Error(), "pg_hba.conf") {
		t.Errorf("retiring: %v", err)
	}
}

// TestVerifyFindsIntruders gives the idle user a password that nobody decided on.
func TestVerifyFindsIntruders(t *testing.T) {
	b := newBench(t, shared)
	users := b.pair(unique("a"), unique("b"))
	d, s := b.database(DatabaseConfig{Usernames: users})
	v, err := d.Create(t.Context(), s)
	must(t, err)
	must(t, d.Set(t.Context(), s, v))
	s.Current = b.value(v)
	b.sql("ALTER ROLE %s PASSWORD %s", users[1], quoteLiteral(v["password"]))
	if _, err := d.Verify(t.Context(), s); err == nil || !strings.Contains(err.Error(), users[1]) {
		t.Errorf("got %v, want that %s is named", err, users[1])
	}
}

func TestClearTextIsNotSentUnasked(t *testing.T) {
	b := newBench(t, shared)
	d, s := b.database(DatabaseConfig{Usernames: []string{b.user("cleartext_user")}})
	v, err := d.Create(t.Context(), s)
	must(t, err)
	must(t, d.Set(t.Context(), s, v))
	wantNotRefused(t, d.Test(t.Context(), s, v), "")
	b.connection.Config.PasswordAuthentication = AuthenticatePassword
	must(t, d.Test(t.Context(), s, v))
}

// odd are passwords on which SASLprep and other preparations differ.
var odd = []string{
	"plain and simple",
	`it's \ "quoted" $1 %s {{password}}`,
	"ﬁne Ⅸ ª \u00a0 soft\u00adhyphen é e\u0301 Å ＡＢ",
	"ｶﾞ ㍿ ½",
	"🔑 ﬁ newer than Unicode 3.2",
	"пароль 密码",
}

// TestPasswordsWorkInLibpq sets passwords that need preparation, and logs in
// with psql, which prepares by itself.
func TestPasswordsWorkInLibpq(t *testing.T) {
	b := newBench(t, shared)
	user := b.user(unique("app"))
	for _, mode := range []string{AuthenticateSCRAM, AuthenticatePassword} {
		b.connection.Config.PasswordAuthentication = mode
		for _, password := range odd {
			must(t, checkPassword("password", password))
			d, s := b.database(DatabaseConfig{Usernames: []string{user}})
			v, err := d.Import(s, password)
			must(t, err)
			must(t, d.Set(t.Context(), s, v))
			must(t, d.Test(t.Context(), s, v))
			must(t, psql(t, shared, user, password))
			if err := psql(t, shared, user, password+"x"); err == nil {
				t.Fatal("psql logs in with anything")
			}
		}
	}
}

// TestMD5 covers servers that still store MD5 hashes, of the password as typed.
func TestMD5(t *testing.T) {
	b := newBench(t, shared)
	user := b.user("md5_user")
	b.sql("ALTER ROLE %s SET password_encryption = 'md5'", b.admin.Username)
	b.connection.Config.PasswordAuthentication = AuthenticatePassword
	for _, password := range odd {
		d, s := b.database(DatabaseConfig{Usernames: []string{user}})
		v := databaseMaterial(user, password)
		must(t, d.Set(t.Context(), s, v))
		must(t, d.Test(t.Context(), s, v))
		must(t, psql(t, shared, user, password))
		wantRefused(t, d.Test(t.Context(), s, databaseMaterial(user, "x"+password)))
	}
}

func psql(t *testing.T, pg *testenv.Postgres, user, password string) error {
	t.Helper()
	program := filepath.Join(pg.BinDir, "psql")
	if _, err := os.Stat(program); err != nil {
		if program, err = exec.LookPath("psql"); err != nil {
			t.Fatal("psql is needed: apt-get install postgresql-client")
		}
	}
	cmd := exec.CommandContext(t.Context(), program, "-X", "-c", "SELECT 1", "postgresql:///postgres?sslmode=disable")
	cmd.Env = []string{"PGHOST=" + pg.Host, fmt.Sprintf("PGPORT=%d", pg.Port), "PGUSER=" + user, "PGPASSWORD=" + password, "PATH=/usr/bin:/bin"}
	return cmd.Run()
}

func TestPasswordsRefused(t *testing.T) {
	for _, password := range []string{"", "a\nb", "a\x00", "\xff", "zero\u200bwidth", "\u00ad", "left א right", "\ue000 private", "no\u0340more", strings.Repeat("x", 1025)} {
		wantInvalid(t, checkPassword("password", password), "password")
	}
	b := &bench{t: t}
	for _, policy := range []string{"missing", "line\n", "bidi א "} {
		d, s := b.database(DatabaseConfig{Usernames: []string{"a"}, PasswordPolicy: policy})
		if v, err := d.Create(context.Background(), s); err == nil {
			t.Errorf("policy %q made %d fields", policy, len(v))
		}
	}
}

// TestServerLogShowsNoPassword runs every kind of change on a server that logs
// every statement, and failures too.
func TestServerLogShowsNoPassword(t *testing.T) {
	b := newBench(t, shared)
	d, s := b.database(DatabaseConfig{Usernames: b.pair(unique("a"), unique("b")), VerificationStatements: []string{"SELECT 1"}})
	var made []rotation.Material
	for range 3 {
		v, err := d.Create(t.Context(), s)
		must(t, err)
		made = append(made, v)
		_, err = d.Preflight(t.Context(), s, v)
		must(t, err)
		s.Pending = b.value(v)
		must(t, d.Set(t.Context(), s, v))
		must(t, d.Undo(t.Context(), s))
		must(t, d.Set(t.Context(), s, v))
		must(t, d.Test(t.Context(), s, v))
		s.Previous, s.Current = s.Current, s.Pending
		if s.Previous != nil {
			must(t, d.Retire(t.Context(), s, s.Previous.Material))
		}
	}
	b.sql("ALTER ROLE %s NOCREATEROLE", b.admin.Username)
	if err := d.Set(t.Context(), s, made[0]); err == nil {
		t.Fatal("an administrator without privileges set a password")
	}
	log, err := os.ReadFile(shared.LogPath)
	must(t, err)
	if !strings.Contains(string(log), "ALTER ROLE "+quoteName(made[0]["username"])) {
		t.Fatal("the log has no statements, so that it proves nothing")
	}
	for _, v := range made {
		if strings.Contains(string(log), v["password"]) {
			t.Error("the server's log shows a password")
		}
	}
}

// TestErrorsAreScrubbed makes the server quote what it was sent.
func TestErrorsAreScrubbed(t *testing.T) {
	b := newBench(t, shared)
	b.connection.Config.PasswordAuthentication = AuthenticatePassword
	user := b.user(unique("app"))
	v := databaseMaterial(user, `hunter2 it's "so" secret`)
	for _, sql := range []string{
		"SELECT {{password}}::int",
		"SELECT bogus {{password}} {{password}}",
		"DO {{password}}",
		"SELECT set_config('lock_timeout', {{password}}, true)",
	} {
		d, s := b.database(DatabaseConfig{Usernames: []string{user}, RotationStatements: []string{sql}})
		err := d.Set(t.Context(), s, v)
		if err == nil || !strings.Contains(err.Error(), rotation.Redacted) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestReadOnlyServer(t *testing.T) {
	b := newBench(t, shared)
	d, s := b.database(DatabaseConfig{Usernames: []string{b.user(unique("app"))}})
	b.sql("ALTER ROLE %s SET default_transaction_read_only = on", b.admin.Username)
	v, err := d.Create(t.Context(), s)
	must(t, err)
	if err := d.Set(t.Context(), s, v); err == nil || !strings.Contains(err.Error(), "primary") {
		t.Errorf("got %v, want that the primary is asked for", err)
	}
}
