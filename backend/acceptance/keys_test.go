package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// verify presents a key.
func (e *engine) verify(key string) map[string]any {
	e.Helper()
	return e.write("api-key/default/api/verify", map[string]any{"key": key})
}

// TestAPIKeys presents keys through two rotations and a rollback, and looks at who
// uses the previous one.
func TestAPIKeys(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", map[string]any{"rotation_period": "1h"})
	e.write("secrets/default/api", map[string]any{"type": "api_key", "prefix": "orders"})
	first := text(e.creds(), "api_key")
	e.write("rotate", nil)
	second := text(e.creds(), "api_key")
	for key, stage := range map[string]string{first: "previous", second: "current", second[:len(second)-1] + "!": "", "nonsense": ""} {
		if answer := e.verify(key); answer["valid"] != (stage != "") || answer["stage"] != stage {
			t.Errorf("%s is answered %v", stage, answer)
		}
	}
	if answer := e.verify(second[:len(second)-3]); !strings.Contains(text(answer, "error"), "checksum") {
		t.Errorf("a key that was cut off is answered %v", answer)
	}
	e.refused(badRequest, "api-key/default/api/verify", nil)
	previous := e.read("status")["secrets"].(map[string]any)["api"].(map[string]any)["previous"].(map[string]any)
	if previous["uses"] != json.Number("1") || previous["last_used"] == nil || !strings.Contains(text(e.read("status"), "overlap"), "in use: api") {
		t.Errorf("status says %v", previous)
	}
	e.write("rollback", map[string]any{"revoke_previous": true})
	if answer := e.verify(second); answer["valid"] != false {
		t.Errorf("a revoked key is answered %v", answer)
	}
}

// TestShownOnce makes keys of which only the hash is kept, through the API and the
// vault command: the answers are wrapped without being asked to, and unwrap once.
func TestShownOnce(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", map[string]any{"rotation_period": "1h"})
	resp, err := e.client.Logical().WriteWithContext(t.Context(), e.path+"/secrets/default/api", map[string]any{"type": "api_key", "hash_only": true})
	if err != nil || resp.WrapInfo == nil || resp.WrapInfo.TTL != 3600 || len(resp.Data) > 0 {
		t.Fatalf("creating the key answers %+v, %v", resp, err)
	}
	first := e.unwrapped(resp.WrapInfo.Token)
	if answer := e.verify(first); answer["stage"] != "current" {
		t.Errorf("the first key is answered %v", answer)
	}
	var wrapped struct {
		WrapInfo struct {
			Token string `json:"token"`
			TTL   int    `json:"ttl"`
		} `json:"wrap_info"`
		Data map[string]any `json:"data"`
	}
	out := e.command("write", "-format=json", "-wrap-ttl=2m", "-f", e.path+"/rotate")
	if err := json.Unmarshal(out, &wrapped); err != nil || wrapped.WrapInfo.TTL != 120 || len(wrapped.Data) > 0 {
		t.Fatalf("rotating by the command is answered %s", out)
	}
	second := e.unwrapped(wrapped.WrapInfo.Token)
	for key, stage := range map[string]string{first: "previous", second: "current"} {
		if answer := e.verify(key); answer["stage"] != stage {
			t.Errorf("the %s key is answered %v", stage, answer)
		}
	}
	if shown := string(e.command("write", "-f", e.path+"/rotate")); !strings.Contains(shown, "wrapping_token:") || strings.Contains(shown, "api_key") {
		t.Errorf("the command shows:\n%s", shown)
	}
	creds := e.creds()
	if creds["api_key"] != nil || len(text(creds, "api_key_sha256")) != 64 || creds["next_vault_rotation"] != nil {
		t.Errorf("creds has the fields %v", creds)
	}
	e.refused(badRequest, "rotate", map[string]any{"wait": 0})
}

// unwrapped returns the key in a wrapped answer, which can be had once.
func (e *engine) unwrapped(token string) string {
	e.Helper()
	resp, err := e.client.Logical().UnwrapWithContext(e.Context(), token)
	if err != nil {
		e.Fatal(err)
	}
	key := text(resp.Data, "api_key")
	if key == "" || resp.Data["status"] != "completed" {
		e.Fatal("the wrapped answer has no key, or did not complete")
	}
	remember(key)
	if _, err := e.client.Logical().UnwrapWithContext(e.Context(), token); err == nil {
		e.Error("the answer is unwrapped twice")
	}
	return key
}

// command runs the vault program.
func (e *engine) command(args ...string) []byte {
	e.Helper()
	cmd := exec.CommandContext(e.Context(), e.vault.Binary, args...)
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+e.vault.Address, "VAULT_TOKEN="+e.vault.RootToken)
	out, err := cmd.Output()
	if err != nil {
		e.Fatalf("vault %s: %v", args[0], err)
	}
	return out
}

// TestDrain has applications that stay on the previous login: status sees one, the
// end of the overlap waits for it, and then another one is thrown out.
func TestDrain(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.orders("alternating_users", map[string]any{"rotation_period": "1h", "overlap": "6s", "refresh_interval": "2s"})
	e.write("secrets/default/db", map[string]any{"on_overlap_end": "wait", "drain_timeout": "10m"})
	e.refused(badRequest, "secrets/default/db", map[string]any{"on_overlap_end": "terminate"})
	e.sql("GRANT pg_signal_backend TO {p}_admin")
	patient := e.session()
	e.write("rotate", nil)
	e.eventually("a look at the session", 2*time.Minute, func(context.Context) error {
		if previous := e.previous(); previous["sessions"] != json.Number("1") || previous["drain_until"] == nil {
			return fmt.Errorf("status says %v", previous)
		}
		return nil
	})
	if sentence := text(e.read("status"), "overlap"); !strings.Contains(sentence, "db (sessions at") {
		t.Errorf("status says %q", sentence)
	}
	if err := patient.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.retired("its sessions have ended, after the engine had waited")

	e.write("secrets/default/db", map[string]any{"on_overlap_end": "terminate", "drain_timeout": 0})
	stubborn := e.session()
	e.write("rotate", nil)
	e.retired("open sessions that the engine terminated: 1")
	if _, err := stubborn.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("the session goes on")
	}
	e.works(e.creds())
}

// session is one of an application that stays.
func (e *engine) session() *pgx.Conn {
	e.Helper()
	creds := e.creds()
	conn, err := pgx.Connect(e.Context(), e.postgres.DSN(text(creds, "db_username"), text(creds, "db_password"), "postgres"))
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// previous is what status says of the previous login.
func (e *engine) previous() map[string]any {
	e.Helper()
	previous, _ := e.read("status")["secrets"].(map[string]any)["db"].(map[string]any)["previous"].(map[string]any)
	return previous
}

// retired waits for the end of the overlap, and for what history says of it.
func (e *engine) retired(words string) {
	e.Helper()
	e.eventually("the end of the overlap", time.Minute, func(context.Context) error {
		records := e.history()
		if last := records[len(records)-1]; last["kind"] != "retire" || !strings.Contains(fmt.Sprint(last["issues"]), words) {
			return fmt.Errorf("history ends in %v: %v", last["kind"], last["issues"])
		}
		return nil
	})
}
