package backend

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// shows sends a write whose answer must show a key, wrapped, and returns that.
func (m *mount) shows(path string, data map[string]any) string {
	m.Helper()
	resp, err := m.b.HandleRequest(context.Background(), m.request(logical.UpdateOperation, path, data))
	answer := m.must(resp, err)
	key, _ := answer["key_key"].(string)
	if resp.WrapInfo == nil || resp.WrapInfo.TTL != time.Hour || key == "" {
		m.Fatalf("%s shows no key, or shows it unwrapped", path)
	}
	m.storage.note("a key that was shown", key)
	return key
}

// hashed is the role r with a key of which only the hash is kept.
func (m *mount) hashed() (key string) {
	m.Helper()
	m.write("roles/r", d("rotation_period", "1h", "overlap", "20m"))
	return m.shows("secrets/r/key", d("type", "api_key", "hash_only", true))
}

func hexSHA256(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func TestHashOnly(t *testing.T) {
	m := newMount(t)
	first := m.hashed()
	m.verifies(first, "current", 1, "")
	creds := m.read("creds/r/key", nil)
	m.hasFields(creds, "key_sha256")
	if creds["key_sha256"] != hexSHA256(first) || creds["next_vault_rotation"] != nil {
		t.Errorf("creds answers %v", creds)
	}
	second := m.shows("rotate/r", nil)
	m.verifies(first, "previous", 1, "")
	m.verifies(second, "current", 2, "")
	m.hasFields(m.read("creds/r/key", nil), "key_sha256", "previous_key_sha256")
	if resp, err := m.try(logical.UpdateOperation, "rollback/r", nil); err != nil || resp.WrapInfo != nil || resp.Data["key_key"] != nil {
		t.Errorf("a rollback answers %v, %v", resp, err)
	}
	m.verifies(first, "current", 3, "")
	third := m.shows("rotate/r", d("revoke_previous", true, "secrets", "key"))
	m.verifies(first, "", 0, "neither")
	m.boot()
	m.verifies(third, "current", 4, "")
	for key, entry := range m.storage.contents(t) {
		for _, shown := range []string{first, second, third} {
			if strings.Contains(entry, shown) {
				t.Errorf("%s holds a key that was shown", key)
			}
		}
	}
	m.refused(logical.UpdateOperation, "secrets/r/key", d("hash_only", false), "hash_only", "cannot be changed")
	m.refused(logical.UpdateOperation, "rotate/r", d("wait", 0), "wait", "hash_only")
	if report := m.read("verify/r", nil); report["valid"] != true {
		t.Errorf("verify reports %v", report)
	}
}

func TestHashOnlyImport(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	const key = "imported-key-0123456789"
	resp, err := m.try(logical.UpdateOperation, "secrets/r/key", d("type", "api_key", "hash_only", true, "skip_import_rotation", true, "key", key))
	if m.must(resp, err); resp.WrapInfo != nil || resp.Data["key_key"] != nil {
		t.Error("importing a key answers it")
	}
	m.verifies(key, "current", 1, "")
	for name, entry := range m.storage.contents(t) {
		if strings.Contains(entry, key) {
			t.Errorf("%s holds the key", name)
		}
	}
}

// TestHashOnlyBySchedule has nobody to give a key to.
func TestHashOnlyBySchedule(t *testing.T) {
	m := newMount(t)
	key := m.hashed()
	status := m.read("status/r", nil)
	if status["next_vault_rotation"] != nil || status["secrets"].(map[string]any)["key"].(map[string]any)["by_request_only"] != true {
		t.Errorf("status says %v", status)
	}
	m.clock.advance(100 * time.Hour)
	m.write("secrets/r/pin", d("type", "random"))
	if status := m.read("status/r", nil); status["overdue"] != false || status["next_vault_rotation"] == nil {
		t.Errorf("status says %v", status)
	}
	m.tick(time.Hour)
	m.eventually("the rotation", func() bool { return m.stage("pin", "current")["version"] == 3 })
	m.verifies(key, "current", 1, "")
}

// TestHashOnlyDeliveredTwice delivers the request again when the key is gone.
func TestHashOnlyDeliveredTwice(t *testing.T) {
	m := newMount(t)
	m.hashed()
	req := m.request(logical.UpdateOperation, "rotate/r", nil)
	resp, err := m.b.HandleRequest(t.Context(), req)
	key := fmt.Sprint(m.must(resp, err)["key_key"])
	for _, crash := range []bool{false, true} {
		if crash {
			m.boot()
		}
		again, err := m.b.HandleRequest(t.Context(), req)
		if m.must(again, err); again.Data["key_key"] != nil || !strings.Contains(fmt.Sprint(again.Warnings), "does not store it") {
			t.Errorf("delivered again, it answers %v", again)
		}
	}
	m.verifies(key, "current", 2, "")
}

// TestHashOnlyThatNobodyWasGiven has a process that died between the commit of a key and
// the answer. Vault delivers the request again.
func TestHashOnlyThatNobodyWasGiven(t *testing.T) {
	m := newMount(t)
	inUse := m.hashed()
	req := m.request(logical.UpdateOperation, "rotate/r", nil)
	resp, err := m.b.HandleRequest(t.Context(), req)
	m.must(resp, err)
	entry, err := m.storage.Get(t.Context(), "role/r")
	if err != nil {
		t.Fatal(err)
	}
	entry.Value = bytes.Replace(entry.Value, []byte(`"version":2,"created"`), []byte(`"version":2,"unreceived":true,"created"`), 1)
	if err := m.storage.Put(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	m.boot()
	again, err := m.b.HandleRequest(t.Context(), req)
	status := m.read("status/r", nil)
	for _, told := range []string{fmt.Sprint(m.must(again, err), again.Warnings), fmt.Sprint(status["advice"])} {
		if !strings.Contains(told, "nobody was given version 2 of the key") || !strings.Contains(told, "write rollback/r with secrets=key") {
			t.Errorf("it says %s", told)
		}
	}
	third := m.shows("rotate/r", nil)
	m.verifies(inUse, "previous", 1, "")
	m.verifies(third, "current", 3, "")
	if status := m.read("status/r", nil); strings.Contains(fmt.Sprint(status["advice"]), "nobody was given") {
		t.Errorf("status says %v", status["advice"])
	}
}

// TestHashOnlyNobodyWaits has a client that goes away before the key is current.
func TestHashOnlyNobodyWaits(t *testing.T) {
	m := newMount(t)
	entered, leave := make(chan struct{}, 9), make(chan struct{})
	open := m.gate("gated", entered, leave)
	key := m.hashed()
	m.write("secrets/r/pin", d("type", "random", "password_policy", "gated"))
	open(false)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan *logical.Response, 1)
	req := m.request(logical.UpdateOperation, "rotate/r", d("wait", "60s"))
	go func() {
		resp, _ := m.b.HandleRequest(ctx, req)
		answered <- resp
	}()
	<-entered
	cancel()
	if resp := <-answered; resp == nil || resp.Data["status"] != "in_progress" || resp.WrapInfo != nil || resp.Data["key_key"] != nil {
		t.Errorf("answered %v", resp)
	}
	close(leave)
	m.eventually("the end", func() bool { return m.read("status/r", nil)["in_flight"] == nil })
	m.verifies(key, "current", 1, "")
	if status := m.read("status/r", nil); !strings.Contains(status["last_error"].(string), "has ended, and the engine does not store the value") {
		t.Errorf("status says %v", status["last_error"])
	}
	if rec := m.lastRecord(); rec["outcome"] != "failed" {
		t.Errorf("history says %v", rec["outcome"])
	}
}
