package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestVaultSecretsOperator applies the operator's own rules to what creds answers
// (controllers/vaultdynamicsecret_controller.go of its v0.10.0): the answer has to
// qualify for allowStaticCreds, and what it compares to decide whether to write
// the Secret and restart pods must not change between rotations.
func TestVaultSecretsOperator(t *testing.T) {
	t.Parallel()
	for name, terms := range map[string]map[string]any{
		"Period": {"rotation_period": "1h"}, "Cron": {"rotation_schedule": "0 3 * * *"}, "Manual": {"auto_rotate": false},
	} {
		e := mountAs(t, shared.vault, shared.postgres, t.Name()+name)
		e.write("roles/default", terms)
		e.write("secrets/default/jwt", map[string]any{"type": "jwt"})
		first := e.creds()
		e.qualifies(first)
		deadline := time.Now().Add(1500 * time.Millisecond)
		for time.Now().Before(deadline) {
			if again := e.creds(); !bytes.Equal(compared(t, first), compared(t, again)) {
				t.Errorf("%s: without a rotation, the operator would restart pods", name)
			}
			time.Sleep(200 * time.Millisecond)
		}
		e.write("rotate", nil)
		second := e.creds()
		e.qualifies(second)
		if bytes.Equal(compared(t, first), compared(t, second)) {
			t.Errorf("%s: the operator would not notice a rotation", name)
		}
	}
}

// qualifies is the operator's vaultStaticCredsMetaDataFromData and isStaticCreds.
func (e *engine) qualifies(creds map[string]any) {
	e.Helper()
	rotated, ok := creds["last_vault_rotation"].(string)
	at, err := time.Parse(time.RFC3339Nano, rotated)
	if !ok || err != nil || at.Unix() <= 0 {
		e.Errorf("last_vault_rotation is %v: %v", creds["last_vault_rotation"], err)
	}
	if period := number(e.T, creds, "rotation_period"); period < 1 {
		e.Errorf("rotation_period is %d", period)
	}
	if ttl := number(e.T, creds, "ttl"); ttl < 1 || ttl > 300 {
		e.Errorf("ttl is %d: that is when the operator comes back", ttl)
	}
	if creds["rotation_schedule"] != nil {
		e.Error("with a rotation_schedule, the operator distrusts ttl")
	}
}

// compared is what the operator makes its HMAC of.
func compared(t *testing.T, creds map[string]any) []byte {
	t.Helper()
	data := maps.Clone(creds)
	for _, name := range []string{"ttl", "rotation_schedule", "rotation_period", "last_vault_rotation", "_raw"} {
		delete(data, name)
	}
	text, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestPollScript has the shipped script follow a rotation with curl, run its
// command, and notice that the overlap has ended.
func TestPollScript(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", map[string]any{"rotation_period": "24h", "overlap": "1h", "refresh_interval": "1s"})
	e.write("secrets/default/api", map[string]any{"type": "api_key"})
	e.creds()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	token, file, stamp := filepath.Join(dir, "token"), filepath.Join(dir, "creds.json"), filepath.Join(dir, "versions")
	if err := os.WriteFile(token, []byte(e.vault.RootToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, []string{"VAULT_ADDR=" + e.vault.Address, "VAULT_TOKEN_FILE=" + token}, filepath.Join(root, "bootstrap/apps/poll.sh"),
		e.path+"/creds/default", file, "sh", "-c", "echo new >>"+stamp)
	e.written(file, 1, false)
	answer := e.write("rotate", nil)
	e.creds()
	e.written(file, number(t, answer, "version"), true)
	e.write("retire", map[string]any{"force": true})
	e.written(file, number(t, answer, "version"), false)
	if runs, err := os.ReadFile(stamp); err != nil || string(runs) != "new\nnew\n" {
		t.Errorf("the command did not run once for each version: %q, %v", runs, err)
	}
}

// written waits until the file has a version, with a previous key or without.
func (e *engine) written(file string, version int64, previous bool) {
	e.Helper()
	e.eventually(fmt.Sprintf("version %d in the file", version), time.Minute, func(context.Context) error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var creds struct {
			Version  int64
			Previous string `json:"api_previous_key"`
		}
		if err := json.Unmarshal(text, &creds); err != nil {
			e.Fatalf("the file is not whole: %v", err)
		}
		if creds.Version != version || (creds.Previous != "") != previous {
			return errors.New("not yet")
		}
		return nil
	})
}
