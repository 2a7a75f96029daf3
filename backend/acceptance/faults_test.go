package acceptance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestRestartKeepsSchedule stops and starts Vault, and seals and unseals it: the
// next rotation stays when it was, and nothing rotates early.
func TestRestartKeepsSchedule(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	e.orders("alternating_users", map[string]any{"rotation_period": "1h"})
	e.write("rotate", nil)
	before := e.creds()
	same := func(after map[string]any) {
		t.Helper()
		for name, value := range before {
			if name != "ttl" && after[name] != value {
				t.Errorf("%s changed from %v to %v", name, value, after[name])
			}
		}
	}
	if err := e.vault.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(e.creds())
	if err := e.vault.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.vault.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(e.creds())
	if err := e.vault.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := e.vault.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(e.creds())
	e.works(e.creds())
	e.write("rotate", nil)
	e.works(e.creds())
	e.history()
}

// TestPluginDiesInRotation kills the plugin while PostgreSQL keeps it waiting.
func TestPluginDiesInRotation(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	for i, strategy := range []string{"single_user", "alternating_users"} {
		e.prefix = fmt.Sprintf("dies%d", i)
		if i > 0 {
			e.path += "-again"
			if err := e.vault.Enable(t.Context(), e.path, ""); err != nil {
				t.Fatal(err)
			}
		}
		e.orders(strategy, map[string]any{"rotation_period": "1h"})
		before := e.creds()
		e.hang()
		if err := e.vault.KillPlugins(); err != nil {
			t.Fatal(err)
		}
		if err := e.postgres.Continue(); err != nil {
			t.Fatal(err)
		}
		e.settled(2 * time.Minute)
		after := e.creds()
		e.works(after)
		if v := number(t, after, "version") - number(t, before, "version"); v != 0 && v != 1 {
			t.Errorf("the version grew by %d", v)
		}
		e.write("rotate", nil)
		e.works(e.creds())
		e.history()
	}
}

// settled waits until nothing is in flight any more.
func (e *engine) settled(timeout time.Duration) {
	e.Helper()
	e.eventually("the end of what is in flight", timeout, func(ctx context.Context) error {
		resp, err := e.client.Logical().ReadWithContext(ctx, e.path+"/status")
		if err != nil {
			return err
		}
		if resp.Data["in_flight"] != nil {
			return fmt.Errorf("in flight: %v", resp.Data["in_flight"])
		}
		return nil
	})
}

// TestStalledPostgres delays nobody but the rotation that waits for it.
func TestStalledPostgres(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	e.orders("alternating_users", nil)
	before := e.creds()
	id := e.hang()
	if cause := e.refused(conflict, "rotate", nil); !strings.Contains(cause, id) {
		t.Errorf("a second rotation is refused without naming the first: %s", cause)
	}
	started := time.Now()
	during := e.creds()
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("reading took %s", took)
	}
	if during["db_password"] != before["db_password"] || number(t, during, "ttl") > 5 {
		t.Errorf("during the rotation, creds answer ttl %v", during["ttl"])
	}
	if err := e.postgres.Continue(); err != nil {
		t.Fatal(err)
	}
	e.settled(time.Minute)
	e.works(e.creds())
	record := e.read("history/default/" + id)
	if record["outcome"] == nil {
		t.Errorf("the record of the rotation is %v", record)
	}
}

// TestPostgresDown rotates while PostgreSQL is gone, in answer and in fact.
func TestPostgresDown(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	e.orders("single_user", nil)
	before := e.creds()
	if err := e.postgres.Kill(); err != nil {
		t.Fatal(err)
	}
	cause := e.refused(unprocessable, "rotate", map[string]any{"wait": 60})
	for _, words := range []string{"secret db: look", fmt.Sprint(e.postgres.Port), "readers keep the same values"} {
		if !strings.Contains(cause, words) {
			t.Errorf("the answer lacks %q: %s", words, cause)
		}
	}
	if e.creds()["db_password"] != before["db_password"] {
		t.Error("what readers get changed")
	}
	if err := e.postgres.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.write("rotate", nil)
	e.works(e.creds())
	e.dead(before)
	e.settled(time.Minute)
	e.history()
}

// TestRotateRoot gives the administrator a password that nobody else knows.
func TestRotateRoot(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.orders("single_user", nil)
	if answer := e.write("rotate-root/main", nil); answer["status"] != "completed" {
		t.Fatalf("rotate-root answered %v", answer)
	}
	e.dead(map[string]any{"version": "admin", "db_username": e.user("admin"), "db_password": "admin-" + e.prefix + "-0123456789"})
	e.write("rotate", nil)
	e.works(e.creds())
	h := e.read("connections/main/history")
	if h["chain_valid"] != true || number(t, h, "count") != 3 {
		t.Errorf("the connection's history is %v", h)
	}
	e.sql("ALTER ROLE {p}_admin PASSWORD '" + verifier(t, "changed-by-hand-0123456789") + "'")
	if cause := e.refused(unprocessable, "rotate-root/main", nil); !strings.Contains(cause, "28P01") {
		t.Errorf("rotate-root with a wrong password says %s", cause)
	}
	e.write("connections/main", e.connection("changed-by-hand-0123456789"))
	e.write("rotate-root/main", nil)
	e.write("rotate", nil)
	e.works(e.creds())
}

// TestHostileUser manages a user whose name is an attack.
func TestHostileUser(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.connect()
	name := `Robert"; DROP ROLE hostileuser_owner;--`
	e.sql(`CREATE ROLE "Robert""; DROP ROLE hostileuser_owner;--" LOGIN`)
	e.write("roles/default", nil)
	e.write("secrets/default/db", map[string]any{"type": "database", "connection": "main", "usernames": []string{name}})
	e.write("rotate", nil)
	e.works(e.creds())
	var owners int
	if err := e.query(e.postgres.SuperuserDSN(), "SELECT count(*) FROM pg_roles WHERE rolname = 'hostileuser_owner'", &owners); err != nil || owners != 1 {
		t.Errorf("the other role is gone: %v", err)
	}
}

// TestImport takes over a password that works, and refuses one that does not.
func TestImport(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.connect("a")
	const password = "pässwörd-0123456789"
	remember(password)
	e.sql("ALTER ROLE {p}_a PASSWORD '" + verifier(t, password) + "'")
	e.write("roles/default", nil)
	secret := map[string]any{
		"type": "database", "connection": "main", "usernames": e.user("a"), "skip_import_rotation": true, "password": "not the password",
	}
	if cause := e.refused(unprocessable, "secrets/default/db", secret); !strings.Contains(cause, "28P01") {
		t.Errorf("importing a wrong password says %s", cause)
	}
	secret["password"] = password
	e.write("secrets/default/db", secret)
	before := e.creds()
	if before["db_password"] != password {
		t.Error("the imported password is not what creds answer")
	}
	e.works(before)
	e.write("rotate", nil)
	e.works(e.creds())
	e.dead(before)
	e.write("rollback", nil)
	e.works(before)
}

// TestSealWhileStalled seals Vault in little time although a target hangs.
func TestSealWhileStalled(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	e.orders("alternating_users", nil)
	if err := e.postgres.Stall(); err != nil {
		t.Fatal(err)
	}
	e.write("rotate", map[string]any{"wait": 0})
	started := time.Now()
	if err := e.vault.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("sealing took %s", took)
	}
	if err := errors.Join(e.postgres.Continue(), e.vault.Unseal(t.Context())); err != nil {
		t.Fatal(err)
	}
	e.settled(2 * time.Minute)
	e.works(e.creds())
	e.history()
}
