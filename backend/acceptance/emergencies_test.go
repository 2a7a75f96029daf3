package acceptance

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/jackc/pgx/v5"
)

// moment is before a step of a section.
type moment struct {
	section string
	number  int
}

// after is when the last step of a section has been done.
const after = -1

// happenings are the emergencies, what is done about them that no command of the
// runbook does, and what has to be the case in the end.
func (r *runbook) happenings() map[moment]func() {
	rotate := func() { r.write("rotate", map[string]any{"wait": 60}) }
	return map[moment]func(){
		{"A secret has leaked", 0}:     func() { r.shell.found = text(r.before, "db_password") },
		{"A secret has leaked", after}: func() { r.dead(r.before) },

		{"A rotation failed", 0}: r.badRelease,
		{"A rotation failed", 2}: func() { r.verifies("SELECT 1") },

		{"The database is unreachable", 0}: func() { r.must(r.postgres.Shutdown()) },
		{"The database is unreachable", 1}: func() {
			if answer := r.write("rotate", map[string]any{"secrets": "api,jwt", "wait": 60}); answer["status"] != "completed" {
				r.Errorf("without the database, rotating keys answered %v", answer)
			}
			r.must(r.postgres.Start(r.Context()))
		},

		{"Vault was sealed during a rotation", 0}: r.sealedInTheMiddle,

		{"The application is unhealthy after a rotation", 0}:     r.sickRelease,
		{"The application is unhealthy after a rotation", after}: func() { r.inOrders("ALTER ROLE orders_a CONNECTION LIMIT -1; ALTER ROLE orders_b CONNECTION LIMIT -1") },

		{"Roll back some secrets", 0}:     rotate,
		{"Roll back some secrets", after}: func() { r.back("jwt_secret") },
		{"Roll back a whole role", 0}:     rotate,
		{"Roll back a whole role", after}: func() { r.back("jwt_secret", "api_key", "db_password") },

		{"A role needs attention", 0}:     r.givenUp,
		{"A role needs attention", 1}:     func() { r.inOrders("GRANT SELECT ON totals TO reports") },
		{"A role needs attention", after}: func() { r.write("roles/reports", map[string]any{"auto_rotate": false}) },

		{"The administrator's password is lost", 0}: r.lostPassword,

		{"An application accepts a retired value", 0}: r.hoarding,
		{"An application accepts a retired value", after}: func() {
			_, err := r.client.Logical().DeleteWithContext(r.Context(), r.path+"/checks/default/old-key")
			r.must(err)
		},

		{"The database refuses a stored password", 0}:     r.forgetful,
		{"The database refuses a stored password", after}: func() { r.write("config", map[string]any{"on_drift": "report"}) },

		{"A reader is late", 0}:   r.late,
		{"A reader is late", 1}:   func() { r.paused(); r.creds() },
		{"An overlap goes on", 0}: r.hangingJob,

		{"Restore a snapshot", 0}: r.movedOn,

		{"A plugin upgrade went wrong", 0}: r.brokenUpgrade,
	}
}

func (r *runbook) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *runbook) verifies(statement string) {
	r.Helper()
	r.write("secrets/default/db", map[string]any{"verification_statements": statement})
}

// badRelease makes a rotation fail.
func (r *runbook) badRelease() {
	r.verifies("SELECT count(*) FROM salaries")
	r.refused(unprocessable, "rotate", nil)
}

// sealedInTheMiddle seals Vault while a rotation waits for the database.
func (r *runbook) sealedInTheMiddle() {
	r.hang()
	r.must(errors.Join(r.vault.Seal(r.Context()), r.postgres.Continue()))
}

// sickRelease rotates, and then the application cannot use what it was given.
func (r *runbook) sickRelease() {
	answer := r.write("rotate", nil)
	r.reaches(r.service, number(r.T, answer, "version"), 20*time.Second)
	user := text(r.creds(), "db_username")
	r.inOrders("ALTER ROLE " + user + " CONNECTION LIMIT 0")
	r.inOrders("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'orders%'")
	r.eventually("the application to suffer", 20*time.Second, func(context.Context) error { return r.service.sick() })
}

// back checks that these values, and no others, are those of before the rotation.
func (r *runbook) back(names ...string) {
	r.Helper()
	now := r.creds()
	for _, name := range []string{"jwt_secret", "api_key", "db_password"} {
		if same := now[name] == r.before[name]; same != slices.Contains(names, name) {
			r.Errorf("%s is that of before: %t", name, same)
		}
	}
}

// givenUp waits until automatic rotation has stopped.
func (r *runbook) givenUp() {
	r.eventually("automatic rotation of reports to stop", 3*time.Minute, func(context.Context) error {
		if status := r.read("status/reports"); status["needs_attention"] != true {
			return errors.New("it has not: " + text(status, "last_error"))
		}
		return nil
	})
}

// lostPassword changes the administrator's password by hand.
func (r *runbook) lostPassword() {
	r.sql("ALTER ROLE smvm_admin PASSWORD '" + verifier(r.T, "changed-by-hand-0123456789") + "'")
	r.refused(unprocessable, "rotate-root/main", nil)
}

// hoarding revokes a key, and an address that asks for none is to refuse it.
func (r *runbook) hoarding() {
	r.write("checks/default/old-key", map[string]any{
		"phase": "retire", "url": "http://" + r.service.address + "/health", "headers": "X-API-Key: {{api_previous_key}}", "attempts": 1,
	})
	r.write("rotate", map[string]any{"secrets": "api", "revoke_previous": true, "wait": 60})
	r.eventually("the application to be asked", 2*time.Minute, func(context.Context) error {
		if status := r.read("status"); status["refusals"] == nil {
			return errors.New("it was not: " + text(status, "report"))
		}
		return nil
	})
}

// forgetful restarts the database with another password than the one in use.
func (r *runbook) forgetful() {
	r.sql("ALTER ROLE " + text(r.creds(), "db_username") + " PASSWORD '" + verifier(r.T, "changed-by-hand-0123456789") + "'")
	r.must(r.postgres.Restart(r.Context()))
}

// late rotates while a reader is paused. Root, which reads what was before each section,
// is late as well.
func (r *runbook) late() {
	made, err := r.vault.Client.Auth().Token().CreateWithContext(r.Context(), &api.TokenCreateRequest{DisplayName: "paused"})
	r.must(err)
	remember(made.Auth.ClientToken)
	r.paused = func() {
		raw := r.raw()
		raw.token = made.Auth.ClientToken
		if answer := raw.do(http.MethodGet, "creds", nil); answer.status != http.StatusOK {
			r.Errorf("the paused reader gets %d: %s", answer.status, answer.cause())
		}
	}
	r.paused()
	r.write("rotate", map[string]any{"wait": 60})
}

// hangingJob keeps a session of a login of role batch beyond its overlap.
func (r *runbook) hangingJob() {
	r.inOrders("CREATE ROLE batch_a LOGIN; CREATE ROLE batch_b LOGIN; GRANT batch_a, batch_b TO smvm_admin WITH ADMIN OPTION")
	r.write("connections/main", map[string]any{"allowed_roles": "default,legacy,reports,batch"})
	r.write("roles/batch", map[string]any{"overlap": "5s", "refresh_interval": "1s", "overlap_limit": "1h"})
	r.write("secrets/batch/db", map[string]any{
		"type": "database", "connection": "main", "rotation_strategy": "alternating_users", "usernames": "batch_a,batch_b",
	})
	job, err := pgx.Connect(r.Context(), text(r.read("creds/batch"), "db_connection_string"))
	r.must(err)
	r.Cleanup(func() { _ = job.Close(context.Background()) })
	r.write("rotate/batch", map[string]any{"wait": 60})
	r.eventually("the overlap to go on", 2*time.Minute, func(context.Context) error {
		if advice := text(r.read("status/batch"), "advice"); !strings.Contains(advice, "the overlap goes on") {
			return errors.New("status advises: " + advice)
		}
		return nil
	})
}

// movedOn saves a snapshot, as the runbook does every night, and makes it worth
// nothing.
func (r *runbook) movedOn() {
	r.shell.run(commandsOf(r.T, "bootstrap/RUNBOOK.md", "A snapshot of Vault"))
	for range 2 {
		r.write("rotate", map[string]any{"revoke_previous": true, "wait": 60})
	}
	r.dead(r.before)
}

// brokenUpgrade moves the mount to a version whose binary is not there any more.
func (r *runbook) brokenUpgrade() {
	r.configure(versioned(r.T, "", "v0.2.0"), "v0.2.0", func() {})
	r.must(os.Remove(filepath.Join(r.vault.PluginDir, "vault-plugin-secrets-smvm_v0.2.0")))
	r.must(r.vault.KillPlugins())
}
