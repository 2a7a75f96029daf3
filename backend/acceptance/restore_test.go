package acceptance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestRestore takes a raft snapshot, rotates, and restores it: storage is then
// older than PostgreSQL. The engine notices, says what to do, and that helps.
func TestRestore(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{"single_user", "alternating_users"} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			e := newOwnEngine(t)
			e.prefix = "restore" + strategy[:3]
			e.orders(strategy, map[string]any{"rotation_period": "1h"})
			e.write("rotate", nil)
			stored := e.creds()
			snapshot := e.snapshot()
			e.write("rotate", nil)
			e.write("rotate", map[string]any{"revoke_previous": true})
			newest := e.creds()
			e.dead(stored)
			e.restore(snapshot)
			e.noticed()
			e.repaired(stored)
			e.write("rotate", map[string]any{"reason": "the stored passwords may have been revoked after the snapshot", "revoke_previous": true})
			last := e.creds()
			e.works(last)
			e.dead(stored)
			e.dead(newest)
			if report := e.read("verify"); report["valid"] != true {
				t.Errorf("in the end verify reports %v", report)
			}
			e.history()
		})
	}
}

func (e *engine) snapshot() []byte {
	e.Helper()
	snapshot, err := e.vault.Snapshot(e.Context())
	if err != nil {
		e.Fatal(err)
	}
	return snapshot
}

func (e *engine) restore(snapshot []byte) {
	e.Helper()
	if err := e.vault.Restore(e.Context(), snapshot); err != nil {
		e.Fatal(err)
	}
}

// noticed waits until the engine tells by itself that PostgreSQL refuses what is
// stored, and expects verify to tell the same, with the command.
func (e *engine) noticed() {
	e.Helper()
	const command = "verify/default with repair=true"
	e.eventually("the check after the restore", time.Minute, func(ctx context.Context) error {
		resp, err := e.client.Logical().ReadWithContext(ctx, e.path+"/status")
		if err != nil {
			return err
		}
		if advice := text(resp.Data, "advice"); !strings.Contains(advice, "secret db, the current value") || !strings.Contains(advice, command) {
			return fmt.Errorf("the advice is %q", advice)
		}
		return nil
	})
	report := e.read("verify")
	secrets, _ := report["secrets"].(map[string]any)
	if report["valid"] != false || !strings.Contains(fmt.Sprint(secrets["db"]), "28P01") || !strings.Contains(text(report, "advice"), command) {
		e.Errorf("verify reports %v", report)
	}
}

// repaired runs the command, and expects what was stored to work again.
func (e *engine) repaired(stored map[string]any) {
	e.Helper()
	if answer := e.write("verify", map[string]any{"repair": true, "reason": "restored from a snapshot"}); answer["status"] != "completed" {
		e.Errorf("the repair answered %v", answer)
	}
	now := e.creds()
	e.works(now)
	for _, name := range []string{"version", "db_username", "db_password", "jwt_secret", "next_vault_rotation"} {
		if now[name] != stored[name] {
			e.Errorf("%s is not what it was at the snapshot", name)
		}
	}
	if report := e.read("verify"); report["valid"] != true || report["advice"] != "" {
		e.Errorf("after the repair verify reports %v", report)
	}
	records := e.history()
	last := records[len(records)-1]
	if last["kind"] != "repair" || last["outcome"] != "completed" || !strings.Contains(fmt.Sprint(last["issues"]), "the engine set it again") {
		e.Errorf("the record of the repair is %v", last)
	}
}

// TestRestoreLosesAdministrator restores a snapshot from before rotate-root: the
// engine has no way in any more, and says what has to be done by hand.
func TestRestoreLosesAdministrator(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	e.prefix = "restoreadmin"
	e.orders("alternating_users", map[string]any{"rotation_period": "1h"})
	stored, snapshot := e.creds(), e.snapshot()
	e.write("rotate-root/main", nil)
	for range 2 {
		e.write("rotate", map[string]any{"revoke_previous": true})
	}
	e.restore(snapshot)
	const what = "somebody changed the administrator's password by hand, another connection or mount with the same administrator rotated it, or Vault was restored from an older snapshot. " +
		"As a superuser of PostgreSQL, give the administrator a new password (in psql: \\password \"restoreadmin_admin\"), and write it to this connection as its password"
	for path, data := range map[string]map[string]any{"verify": {"repair": true}, "rotate-root/main": nil} {
		if cause := e.refused(unprocessable, path, data); !strings.Contains(cause, what) {
			t.Errorf("%s says %s", path, cause)
		}
	}
	e.eventually("the check after the restore", time.Minute, func(context.Context) error {
		if !strings.Contains(text(e.read("connections/main"), "advice"), "connections/main") {
			return errors.New("the connection gives no advice")
		}
		return nil
	})
	password := "admin-again-0123456789"
	remember(password)
	e.sql("ALTER ROLE {p}_admin PASSWORD '" + verifier(t, password) + "'")
	e.write("connections/main", e.connection(password))
	e.repaired(stored)
	e.write("rotate-root/main", nil)
	e.write("rotate", nil)
	e.works(e.creds())
	if h := e.read("connections/main/history"); h["chain_valid"] != true {
		t.Errorf("the connection's history is %v", h)
	}
}

// TestRestoreInFlight takes the snapshot in the middle of a rotation. By the time
// it is restored its target has long moved on; recovery ends what it finds open.
func TestRestoreInFlight(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	e.prefix = "restoreflight"
	e.orders("alternating_users", map[string]any{"rotation_period": "1h"})
	e.hang()
	snapshot := e.snapshot()
	if err := e.postgres.Continue(); err != nil {
		t.Fatal(err)
	}
	e.settled(time.Minute)
	for range 2 {
		e.write("rotate", map[string]any{"revoke_previous": true})
	}
	e.restore(snapshot)
	e.settled(2 * time.Minute)
	e.works(e.creds())
	e.write("rotate", nil)
	e.works(e.creds())
	e.history()
}
