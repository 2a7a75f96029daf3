package database

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func TestClearTextIsNotSentUnasked(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	d, s := b.database(Config{Usernames: []string{b.User("cleartext_user")}})
	v, err := d.Create(t.Context(), s)
	expect.OK(t, err)
	expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
	wantNotRefused(t, d.Test(t.Context(), s, v), "")
	b.Connection.Settings.PasswordAuthentication = postgres.AuthenticatePassword
	expect.OK(t, d.Test(t.Context(), s, v))
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
	b := newBench(t, pgtest.Shared)
	user := b.User(pgtest.Unique("app"))
	for _, mode := range []string{postgres.AuthenticateSCRAM, postgres.AuthenticatePassword} {
		b.Connection.Settings.PasswordAuthentication = mode
		for _, password := range odd {
			expect.OK(t, postgres.CheckPassword("password", password))
			d, s := b.database(Config{Usernames: []string{user}})
			v, err := d.Import(s, password)
			expect.OK(t, err)
			expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
			expect.OK(t, d.Test(t.Context(), s, v))
			expect.OK(t, psql(t, pgtest.Shared, user, password))
			if err := psql(t, pgtest.Shared, user, password+"x"); err == nil {
				t.Fatal("psql logs in with anything")
			}
		}
	}
}

// TestMD5 covers users whose password was stored as an MD5 hash, of it as typed.
func TestMD5(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	user := b.User("md5_user")
	b.Connection.Settings.PasswordAuthentication = postgres.AuthenticatePassword
	for _, password := range odd {
		d, s := b.database(Config{Usernames: []string{user}})
		v := postgres.Material(user, password)
		b.SQL("SET password_encryption = 'md5'; ALTER ROLE %s PASSWORD %s", user, postgres.QuoteLiteral(password))
		expect.OK(t, d.Test(t.Context(), s, v))
		expect.OK(t, psql(t, pgtest.Shared, user, password))
		expect.Refused(t, d.Test(t.Context(), s, postgres.Material(user, "x"+password)))
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
		expect.Invalid(t, postgres.CheckPassword("password", password), "password")
	}
	b := &bench{&pgtest.Bench{T: t}}
	for _, policy := range []string{"missing", "line\n", "bidi א "} {
		d, s := b.database(Config{Usernames: []string{"a"}, PasswordPolicy: policy})
		if v, err := d.Create(context.Background(), s); err == nil {
			t.Errorf("policy %q made %d fields", policy, len(v))
		}
	}
}

// TestServerLogShowsNoPassword runs every kind of change on a server that logs
// every statement, and failures too.
func TestServerLogShowsNoPassword(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	d, s := b.database(Config{Usernames: b.Pair(pgtest.Unique("a"), pgtest.Unique("b")), VerificationStatements: []string{"SELECT 1"}})
	var made []rotation.Material
	for range 3 {
		v, err := d.Create(t.Context(), s)
		expect.OK(t, err)
		made = append(made, v)
		_, err = d.Preflight(t.Context(), s, v)
		expect.OK(t, err)
		s.Pending = b.Value(v)
		expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
		expect.OK(t, d.Undo(t.Context(), s, conformance.Unfenced))
		expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
		expect.OK(t, d.Test(t.Context(), s, v))
		s.Previous, s.Current = s.Current, s.Pending
		if s.Previous != nil {
			expect.OK(t, d.Retire(t.Context(), s, s.Previous.Material, conformance.Unfenced))
		}
	}
	b.SQL("ALTER ROLE %s NOCREATEROLE", b.Admin.Username)
	if err := d.Set(t.Context(), s, made[0], conformance.Unfenced); err == nil {
		t.Fatal("an administrator without privileges set a password")
	}
	log, err := os.ReadFile(pgtest.Shared.LogPath)
	expect.OK(t, err)
	if !strings.Contains(string(log), "ALTER ROLE "+postgres.QuoteName(made[0]["username"])) {
		t.Fatal("the log has no statements, so that it proves nothing")
	}
	for _, v := range made {
		if strings.Contains(string(log), v["password"]) {
			t.Error("the server's log shows a password")
		}
	}
}

// TestErrorsAreScrubbed makes the server quote what it was sent: nothing of its words is
// told, not even with what is secret taken out.
func TestErrorsAreScrubbed(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	b.Connection.Settings.PasswordAuthentication = postgres.AuthenticatePassword
	user := b.User(pgtest.Unique("app"))
	v := postgres.Material(user, `hunter2 it's "so" secret`)
	for _, sql := range []string{
		"SELECT {{password}}::int",
		"SELECT bogus {{password}} {{password}}",
		"DO {{password}}",
		"SELECT set_config('lock_timeout', {{password}}, true)",
	} {
		d, s := b.database(Config{Usernames: []string{user}, RotationStatements: []string{sql}})
		err := d.Set(t.Context(), s, v, conformance.Unfenced)
		if err == nil || !strings.Contains(err.Error(), "(SQLSTATE ") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), rotation.Redacted) {
			t.Errorf("%s: %v", sql, err)
		}
	}
}
