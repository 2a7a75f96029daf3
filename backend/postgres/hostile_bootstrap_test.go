package postgres_test

import (
	"os/exec"
	"path/filepath"
	"strings"
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
