package acceptance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// promptly fails the test when something takes longer than a person would wait.
func (e *engine) promptly(what string, do func() error) {
	e.Helper()
	started := time.Now()
	if err := do(); err != nil {
		e.Errorf("%s: %v", what, err)
	}
	if took := time.Since(started); took > 10*time.Second {
		e.Errorf("%s took %s", what, took)
	}
}

// hang stalls PostgreSQL and leaves a rotation waiting for it, which has saved its intent:
// nobody can set a password until it waits for that.
func (e *engine) hang() (rotationID string) {
	e.Helper()
	for range 5 {
		if id, waits := e.stallInSet(); waits {
			return id
		}
		// The rotation has given up before the server was stalled.
		if err := e.postgres.Continue(); err != nil {
			e.Fatal(err)
		}
		e.eventually("the rotation to end", time.Minute, func(context.Context) error {
			if operation := e.read("status")["in_flight"]; operation != nil {
				return fmt.Errorf("it is %v", operation)
			}
			return nil
		})
	}
	e.Fatal("no rotation was still waiting when PostgreSQL was stalled")
	return ""
}

// stallInSet is hang, if it is quicker than the 5 seconds for which a rotation waits.
func (e *engine) stallInSet() (rotationID string, waits bool) {
	e.Helper()
	other, err := pgx.Connect(e.Context(), e.postgres.SuperuserDSN())
	if err == nil {
		_, err = other.Exec(e.Context(), "BEGIN; LOCK TABLE pg_authid IN EXCLUSIVE MODE")
	}
	if err != nil {
		e.Fatal(err)
	}
	answer := e.write("rotate", map[string]any{"wait": 0})
	if answer["status"] != "in_progress" {
		e.Fatalf("rotate beside who holds all users answered %v", answer)
	}
	inSet := func() bool {
		operation, _ := e.read("status")["in_flight"].(map[string]any)
		return operation["step"] == "set"
	}
	e.eventually("the rotation to wait for the user", time.Minute, func(context.Context) error {
		if operation := e.read("status")["in_flight"]; operation != nil && !inSet() {
			return fmt.Errorf("it is %v", operation)
		}
		return nil
	})
	// What has locked the table ends when the server goes on, and hears that nobody is there.
	if err := errors.Join(e.postgres.Stall(), other.PgConn().Conn().Close()); err != nil {
		e.Fatal(err)
	}
	return text(answer, "rotation_id"), inSet()
}

// TestRemovalInRotation deletes a role, a secret and a connection, moves the mount
// and disables it, each in the middle of a rotation.
func TestRemovalInRotation(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	e.orders("alternating_users", nil)
	id, r := e.hang(), e.raw()
	for path, want := range map[string]struct {
		status int
		words  string
	}{
		"roles/default":       {conflict, id},
		"secrets/default/db":  {conflict, id},
		"secrets/default/jwt": {conflict, id},
		"connections/main":    {badRequest, "default/db"},
	} {
		if answer := r.do(http.MethodDelete, path, nil); answer.status != want.status || !strings.Contains(answer.cause(), want.words) {
			t.Errorf("deleting %s in a rotation answered %d: %s", path, answer.status, answer.cause())
		}
	}
	e.move()
	if err := e.postgres.Continue(); err != nil {
		t.Fatal(err)
	}
	e.settled(time.Minute)
	e.works(e.creds())
	e.write("rotate", nil)
	e.works(e.creds())
	e.history()
	e.disable()
}

// move moves the mount while a rotation waits.
func (e *engine) move() {
	e.Helper()
	from := e.path
	e.path += "-moved"
	e.promptly("moving the mount", func() error {
		return e.vault.Client.Sys().RemountWithContext(e.Context(), from, e.path)
	})
	if status := e.read("status"); status["in_flight"] == nil {
		e.Error("after the move, the rotation that waits is not in flight")
	}
	e.creds()
}

// disable removes the mount while a rotation waits. Another mount of the same
// plugin process goes on, and the log hears no more of the one removed.
func (e *engine) disable() {
	e.Helper()
	e.hang()
	e.promptly("disabling the mount", func() error {
		return e.vault.Client.Sys().UnmountWithContext(e.Context(), e.path)
	})
	removed, before := e.path, len(e.log())
	if err := e.postgres.Continue(); err != nil {
		e.Fatal(err)
	}
	var marked bool
	const comment = `SELECT shobj_description('%s_a'::regrole, 'pg_authid') LIKE '%%Managed by smvm:%%'`
	if err := e.query(e.postgres.SuperuserDSN(), fmt.Sprintf(comment, e.prefix), &marked); err != nil || !marked {
		e.Errorf("the line in the comment on a user stays: %t, %v", marked, err)
	}
	e.path, e.prefix = "smvm-next", "next"
	if err := e.vault.Enable(e.Context(), e.path, ""); err != nil {
		e.Fatal(err)
	}
	e.orders("alternating_users", map[string]any{"rotation_period": "1h", "overlap": "4s", "refresh_interval": "2s"})
	e.write("rotate", nil)
	e.eventually("a retirement, by which time the removed mount had its chance", time.Minute, func(context.Context) error {
		if e.creds()["jwt_previous_secret"] != nil {
			return errors.New("the previous values are still there")
		}
		return nil
	})
	if log := e.log()[before:]; strings.Contains(log, "mount="+removed+"/") {
		e.Errorf("the log goes on about the removed mount:\n%s", log)
	}
}

func (e *engine) log() string {
	e.Helper()
	log, err := os.ReadFile(e.vault.LogPath)
	if err != nil {
		e.Fatal(err)
	}
	return string(log)
}

// TestHungServerDelaysItsOwn has more roles due on a server that hangs than there
// are workers, and expects a role on another to rotate on time, by itself and by
// hand, and all to be read at once.
func TestHungServerDelaysItsOwn(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	e.write("config", map[string]any{"max_workers": 2})
	e.connect("a", "b", "c")
	hung := []string{"hung1", "hung2", "hung3"}
	for i, role := range hung {
		e.single(role, "main", e.user(string(rune('a'+i))))
	}
	other := &engine{T: t, vault: e.vault, postgres: testenv.NewPostgres(t, testenv.PostgresOptions{Settings: talkative}), client: e.client, path: e.path, prefix: "other"}
	inspectAfter(t, other.vault, other.postgres)
	other.sql("CREATE ROLE other_admin LOGIN CREATEROLE PASSWORD '"+verifier(t, "other-admin-0123456789")+"'", "CREATE ROLE other_owner NOLOGIN")
	other.addUser("a")
	other.addUser("b")
	e.write("connections/other", other.connection("other-admin-0123456789"))
	e.single("healthy", "other", "other_a")
	e.single("manual", "other", "other_b")
	if err := e.postgres.Stall(); err != nil {
		t.Fatal(err)
	}
	e.meanwhile(hung)
	if err := e.postgres.Continue(); err != nil {
		t.Fatal(err)
	}
	for _, role := range hung {
		e.eventually("the rotation of "+role, 2*time.Minute, func(context.Context) error {
			if status := e.read("status/" + role); status["in_flight"] != nil || status["last_error"] != "" || number(t, status, "version") < 2 {
				return errors.New(role + " has not caught up")
			}
			return nil
		})
	}
}

// single makes a role with one user of a connection and the shortest period.
func (e *engine) single(role, connection, user string) {
	e.Helper()
	e.write("roles/"+role, map[string]any{"rotation_period": 60, "retry_interval": 1})
	e.write("secrets/"+role+"/db", map[string]any{"type": "database", "connection": connection, "usernames": user})
}

// meanwhile waits until the healthy role has rotated by itself, once the roles of
// the hung server are due.
func (e *engine) meanwhile(hung []string) {
	e.Helper()
	before := e.read("status/healthy")
	e.eventually("workers that hang", 90*time.Second, func(context.Context) error {
		waiting := 0
		for _, role := range hung {
			if e.read("status/" + role)["in_flight"] != nil {
				waiting++
			}
		}
		if waiting < 2 {
			return errors.New("they are not all busy")
		}
		return nil
	})
	e.promptly("a rotation by hand", func() error { e.write("rotate/manual", nil); return nil })
	late := e.lateness(before)
	for tries := 1; late > 5*time.Second && tries < 3; tries++ { // it may be held up on a busy machine
		e.Logf("the role of another server rotated %s late", late)
		late = e.lateness(e.read("status/healthy"))
	}
	if late > 5*time.Second {
		e.Errorf("the role of another server rotated %s late", late)
	}
}

// lateness waits for the rotation of the healthy role that follows a status of it.
func (e *engine) lateness(before map[string]any) time.Duration {
	e.Helper()
	due, err := time.Parse(time.RFC3339, text(before, "next_vault_rotation"))
	if err != nil {
		e.Fatal(err)
	}
	e.eventually("the rotation of the healthy role", 90*time.Second, func(context.Context) error {
		e.promptly("reading a role whose server hangs", func() error { e.read("creds/hung1"); return nil })
		if number(e.T, e.read("status/healthy"), "version") == number(e.T, before, "version") {
			return errors.New("it has not rotated")
		}
		return nil
	})
	rotated, err := time.Parse(time.RFC3339, text(e.read("status/healthy"), "last_vault_rotation"))
	if err != nil {
		e.Fatal(err)
	}
	return rotated.Sub(due)
}

// TestConfigureAfterDeregistration takes the plugin out of the catalog while a mount needs
// it, as the end of another mount may: after an unseal that mount is dead, and configure.sh
// has it run again.
func TestConfigureAfterDeregistration(t *testing.T) {
	t.Parallel()
	e, shell := newOperated(t)
	configure := "bootstrap/install/configure.sh -version v0.1.0 -path other " + shared.plugin
	// The policy of the project is for another mount. configure.sh says how to write one for this.
	shell.run("vault policy write smvm-installer bootstrap/install/policies/installer.hcl")
	said := shell.run("VAULT_TOKEN=$(vault token create -policy=smvm-installer -field=token) " + configure + " || true")
	command := regexp.MustCompile(`(?m)^ +(sed .*)$`).FindStringSubmatch(said)
	if command == nil || !strings.Contains(said, "is for smvm/. For other/, the token needs this one") || strings.Contains(said, "Code: 403") {
		t.Fatalf("with the policy for smvm/, configure.sh says\n%s", said)
	}
	shell.run(command[1])
	shell.run("VAULT_TOKEN=$(vault token create -policy=other-installer -field=token) " + configure)
	shell.run("vault plugin deregister -version=v0.1.0 secret vault-plugin-secrets-smvm")
	e.check(errors.Join(e.vault.Seal(t.Context()), e.vault.Unseal(t.Context())))
	out := shell.run(configure)
	for _, words := range []string{"registered vault-plugin-secrets-smvm v0.1.0", "reloaded other/", "other/ runs"} {
		if !strings.Contains(out, words) {
			t.Errorf("configure.sh does not say %q:\n%s", words, out)
		}
	}
}
