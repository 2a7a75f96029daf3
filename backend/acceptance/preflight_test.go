package acceptance

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestPreflight spoils a role in many ways, and then does what an operator does who
// knows nothing of it: read the report, run what it says in psql or in a shell, and
// read it again, until there is nothing left to run.
func TestPreflight(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.orders("alternating_users", map[string]any{"rotation_period": "1h", "overlap": "50m"})
	e.write("checks/default/health", map[string]any{"url": "http://127.0.0.1:1/", "phase": "before"})
	e.sql("CREATE ROLE {p}_team", "GRANT {p}_team TO {p}_a", "ALTER ROLE {p}_b NOLOGIN", "ALTER ROLE {p}_b RESET role", "ALTER ROLE {p}_a VALID UNTIL 'tomorrow'",
		"ALTER ROLE {p}_b CONNECTION LIMIT 0", "GRANT SELECT ON {p}_orders TO {p}_b", "ALTER ROLE {p}_admin NOCREATEROLE", "ALTER ROLE {p}_a NOINHERIT")
	if report := e.read("verify"); report["valid"] != true || report["ready"] != false {
		t.Errorf("verify reports %v", report)
	}
	e.treat()
	report := e.read("verify")
	if report["ready"] != false || len(e.open(report, "error", "warning")) != 1 {
		t.Errorf("beside the check there still is %v", report["findings"])
	}
	e.operator("vault delete " + e.path + "/checks/default/health")
	out := e.operator("vault read -field=report " + e.path + "/verify")
	if !strings.Contains(out, "ready; errors: 0, warnings: 0, ") {
		t.Errorf("vault shows\n%s", out)
	}
	out = e.operator("vault write " + e.path + "/rotate dry_run=true")
	if !strings.Contains(out, "commit all of it as version") || !strings.Contains(out, "dry_run") {
		t.Errorf("vault shows\n%s", out)
	}
	if answer := e.write("rotate", nil); answer["status"] != "completed" {
		t.Errorf("the rotation answers %v", answer)
	}
}

// open returns what is to be run for the findings of these severities.
func (e *engine) open(report map[string]any, severities ...string) (fixes []string) {
	e.Helper()
	for _, one := range report["findings"].([]any) {
		f := one.(map[string]any)
		for _, severity := range severities {
			if f["severity"] == severity {
				fixes = append(fixes, text(f, "fix"))
			}
		}
	}
	return fixes
}

// treat runs what verify says until that is nothing, or nothing new.
func (e *engine) treat() {
	e.Helper()
	for range 5 {
		ran := 0
		for _, fix := range e.open(e.read("verify"), "error", "warning") {
			switch {
			case fix == "":
				continue
			case strings.HasPrefix(fix, "vault "):
				e.operator(fix)
			default:
				e.operator("psql -X -q -v ON_ERROR_STOP=1 -d postgres <<'END'\n" + fix + "\nEND")
			}
			ran++
		}
		if ran == 0 {
			return
		}
	}
	e.Error("what is to be run never ends")
}

// operator runs a command in the shell of somebody who may do everything.
func (e *engine) operator(command string) string {
	e.Helper()
	shell := &terminal{T: e.T, dir: e.TempDir(), env: append(os.Environ(),
		"PATH="+filepath.Dir(e.vault.Binary)+":"+e.postgres.BinDir+":"+os.Getenv("PATH"),
		"VAULT_ADDR="+e.vault.Address, "VAULT_TOKEN="+e.vault.RootToken,
		"PGHOST="+e.postgres.Host, "PGPORT="+strconv.Itoa(e.postgres.Port), "PGUSER="+testenv.Superuser, "PGPASSWORD="+e.postgres.Password)}
	return shell.run(command)
}
