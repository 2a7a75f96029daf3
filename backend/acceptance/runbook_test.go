package acceptance

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
)

// procedure is the page that has a row for each step of the manual procedure.
const procedure = "docs/procedure.md"

// runbook is the world in which the commands of bootstrap/RUNBOOK.md and of
// docs/procedure.md are run: an application, a Vault Agent and an Alertmanager
// around the engine of the quick start.
type runbook struct {
	*engine
	shell   *terminal
	service *service
	// before is what readers got when the section began.
	before map[string]any
	// paused has the reader read that stops in between.
	paused func()
}

// TestRunbook runs every command of the runbook and then of the procedure, as an
// operator who may read no value, and looks for what they say that one sees. It causes
// each emergency before.
func TestRunbook(t *testing.T) {
	t.Parallel()
	r := newRunbook(t)
	happenings, session := r.happenings(), r.shell.session()
	all := append(steps(page(t, "bootstrap/RUNBOOK.md")), steps(page(t, procedure))...)
	for i, s := range all {
		if s.number == 0 {
			r.before = r.creds()
		}
		if happens := happenings[moment{s.section, s.number}]; happens != nil {
			happens()
			delete(happenings, moment{s.section, s.number})
		}
		r.sees(s, session.run(s.commands))
		if last := i+1 == len(all) || all[i+1].section != s.section; last && happenings[moment{s.section, after}] != nil {
			happenings[moment{s.section, after}]()
			delete(happenings, moment{s.section, after})
		}
	}
	for m := range happenings {
		t.Errorf("the runbook has no step %d in %q", m.number, m.section)
	}
	r.works(r.creds())
	r.history()
}

// sees checks what a step has shown.
func (r *runbook) sees(s step, shown string) {
	r.Helper()
	r.Logf("%s, step %d", s.section, s.number+1)
	for _, words := range s.sees {
		if !strings.Contains(shown, words) {
			r.Errorf("%s: after\n%s\none does not see %q, but\n%s", s.section, s.commands, words, shown)
		}
	}
}

// newRunbook sets up the world by the commands of the README and of docs/operations.md.
func newRunbook(t *testing.T) *runbook {
	t.Helper()
	e, shell := newOperated(t)
	shell.run("bootstrap/install/configure.sh -version v0.1.0 " + shared.plugin)
	shell.run("set -euo pipefail\n" + commandsOf(t, "README.md", "Quick start") +
		commandsOf(t, "docs/operations.md", "Set up an application", "Every day"))
	e.write("config", map[string]any{"environment": "acceptance"})
	e.write("roles/default", map[string]any{"refresh_interval": "1s"})
	alertmanager := e.alertmanager((&pager{}).listen(t))
	e.write("alerts/ops", map[string]any{"type": "alertmanager", "url": alertmanager})
	e.library(map[string]any{"timeout": 5, "deadline": 60})
	r := &runbook{engine: e, shell: shell, service: e.approleService()}
	r.doomed()
	shell.env = append(shell.env, "VAULT_TOKEN="+r.operator(), "API=http://"+r.service.address, "BACKUPS="+t.TempDir(),
		"CONFIG="+e.startAgent("agent", "agent.hcl").dir, "ALERTMANAGER="+alertmanager)
	return r
}

// mayAlso is what an operator has to be allowed besides for the steps that are
// marked as an administrator's, and are about Vault itself.
const mayAlso = `
path "sys/storage/raft/snapshot" { capabilities = ["read", "update"] }
path "sys/policies/acl/smvm-auditor" { capabilities = ["update"] }
path "auth/token/create" { capabilities = ["update"] }
path "auth/approle/role" { capabilities = ["list"] }
`

// operator is a token with the policies that are shipped, of which that of the
// auditor denies every value.
func (r *runbook) operator() string {
	r.Helper()
	names := []string{"operator", "administrator", "auditor", "installer", "responder"}
	for i, name := range names {
		names[i] = "smvm-" + name
		r.putPolicy(names[i], r.policy(name))
	}
	r.putPolicy("smvm-vault", mayAlso)
	made, err := r.vault.Client.Auth().Token().CreateWithContext(r.Context(), &api.TokenCreateRequest{Policies: append(names, "smvm-vault"), NoParent: true})
	if err != nil {
		r.Fatal(err)
	}
	remember(made.Auth.ClientToken)
	return made.Auth.ClientToken
}

func (r *runbook) putPolicy(name, text string) {
	r.Helper()
	if err := r.vault.Client.Sys().PutPolicyWithContext(r.Context(), name, text); err != nil {
		r.Fatal(err)
	}
}

// doomed makes the role reports, whose first rotation by schedule, a minute from
// now, fails.
func (r *runbook) doomed() {
	r.Helper()
	r.inOrders("CREATE ROLE reports LOGIN; GRANT reports TO smvm_admin WITH ADMIN OPTION; CREATE TABLE totals (id int); GRANT SELECT ON totals TO reports")
	r.write("connections/main", map[string]any{"allowed_roles": "default,legacy,reports"})
	r.write("roles/reports", map[string]any{"rotation_period": 60, "max_retries": 1})
	r.write("secrets/reports/db", map[string]any{
		"type": "database", "connection": "main", "usernames": "reports", "verification_statements": "SELECT count(*) FROM totals",
	})
	r.inOrders("REVOKE SELECT ON totals FROM reports")
}

func (r *runbook) inOrders(sql string) {
	r.Helper()
	if err := r.postgres.ExecIn(r.Context(), "orders", sql); err != nil {
		r.Fatal(err)
	}
}
