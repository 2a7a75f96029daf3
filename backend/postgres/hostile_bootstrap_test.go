package postgres_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestBootstrapInHostileDatabase runs the scripts for superusers where the owner of the
// database has shadowed all that they could mean, and is there before them.
func TestBootstrapInHostileDatabase(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	owner, boss, bouncer := pgtest.Unique("owner"), pgtest.Unique("boss"), pgtest.Unique("bouncer")
	b.SQL("CREATE ROLE %s; CREATE ROLE %s SUPERUSER LOGIN PASSWORD 'boss'; CREATE ROLE %s LOGIN", owner, boss, bouncer)
	h := testenv.NewHostile(t, pgtest.Shared, boss, owner)
	h.SQL(`ALTER DATABASE ` + h.Database + ` SET search_path = evil, "$user", public, pg_catalog`)
	run := func(script string, args ...string) (string, error) {
		args = append([]string{"-X", "-q", "-f", filepath.Join("..", "..", "bootstrap", script), pgtest.Shared.DSN(boss, "boss", h.Database)}, args...)
		out, err := exec.CommandContext(t.Context(), filepath.Join(pgtest.Shared.BinDir, "psql"), args...).CombinedOutput()
		return string(out), err
	}
	h.Lured("boss", "SELECT count(*) = 0 FROM pg_catalog.pg_roles WHERE rolname = 'nobody'")
	if len(h.Calls()) == 0 {
		t.Fatal("nothing was used without protection")
	}
	for script, args := range map[string][]string{
		"install/sql/postgresql.sql": {"-v", "admin=" + b.Admin.Username, "-v", "owner=" + owner, "-v", "user_a=" + pgtest.Unique("a"), "-v", "user_b=" + pgtest.Unique("b")},
		"install/pgbouncer/auth.sql": {"-v", "owner=" + owner, "-v", "bouncer=" + bouncer},
	} {
		if out, err := run(script, args...); err != nil {
			t.Errorf("%s: %v: %s", script, err, out)
		}
		if calls := h.Calls(); len(calls) > 0 {
			t.Errorf("%s has run, as a superuser: %q", script, calls)
		}
	}
	taken := pgtest.Unique("taken")
	h.SQL("CREATE ROLE " + taken + " LOGIN; CREATE SCHEMA " + taken + " AUTHORIZATION " + owner)
	if out, err := run("install/pgbouncer/auth.sql", "-v", "owner="+owner, "-v", "bouncer="+taken); err == nil || !strings.Contains(out, "belongs to no superuser") {
		t.Errorf("a schema that the owner can put functions in was used: %v: %s", err, out)
	}
}

// TestBootstrapWithoutAPassword runs the script with nobody to answer its question, for which
// PostgreSQL leaves the administrator without a password, and says no more than a notice.
func TestBootstrapWithoutAPassword(t *testing.T) {
	admin := pgtest.Unique("new_admin")
	run := func(answers string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(pgtest.Shared.BinDir, "psql"), append([]string{"-X", "-q", pgtest.Shared.SuperuserDSN()}, args...)...)
		cmd.Stdin, cmd.SysProcAttr = strings.NewReader(answers), &syscall.SysProcAttr{Setsid: true} // psql asks the terminal, if there is one
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	script := []string{"-v", "admin=" + admin, "-v", "owner=" + pgtest.Unique("owner"), "-v", "user_a=" + pgtest.Unique("a"), "-v", "user_b=" + pgtest.Unique("b"), "-f", filepath.Join("..", "..", "bootstrap", "install", "sql", "postgresql.sql")}
	for range 2 { // also when only the question is left to be asked again
		if out, err := run("", script...); err == nil || !strings.Contains(out, "has no password") || !strings.Contains(out, `\password`) {
			t.Errorf("without an answer: %v: %s", err, out)
		}
	}
	if out, err := run("a-password-0123456789\na-password-0123456789\n", "-c", `\password `+admin); err != nil {
		t.Errorf("the password is not set: %v: %s", err, out)
	}
	if out, err := run("", script...); err != nil {
		t.Errorf("with a password: %v: %s", err, out)
	}
}

// TestBootstrapWithEqualNames gives the administrator the rights of an application's user.
func TestBootstrapWithEqualNames(t *testing.T) {
	admin := pgtest.Unique("equal")
	out, err := exec.CommandContext(t.Context(), filepath.Join(pgtest.Shared.BinDir, "psql"), "-X", "-q", pgtest.Shared.SuperuserDSN(),
		"-v", "admin="+admin, "-v", "user_a="+admin, "-f", filepath.Join("..", "..", "bootstrap", "install", "sql", "postgresql.sql")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "two of the names are equal") {
		t.Errorf("%v: %s", err, out)
	}
	var made int
	if err := pgtest.Shared.Ask(t.Context(), "SELECT count(*)::int FROM pg_roles WHERE rolname = '"+admin+"'", &made); err != nil || made != 0 {
		t.Errorf("%d roles were made: %v", made, err)
	}
}
