package backend

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// verifies checks what api-key/r/key/verify answers about a key.
func (m *mount) verifies(key any, stage string, version int, reason string) {
	m.Helper()
	answer := m.write("api-key/r/key/verify", d("key", key))
	if answer["valid"] != (stage != "") || answer["stage"] != stage || answer["version"] != version {
		m.Errorf("verify answers %v, want stage %q of version %d", answer, stage, version)
	}
	if text := answer["error"].(string); !strings.Contains(text, reason) || reason == "" && text != "" {
		m.Errorf("verify says %q, want %q", text, reason)
	}
}

func TestAPIKeyVerify(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "1h", "overlap", "20m"))
	m.write("secrets/r/key", d("type", "api_key", "prefix", "orders"))
	m.write("secrets/r/pin", d("type", "random"))
	first := m.read("creds/r", nil)["key_key"].(string)
	m.verifies(first, "current", 1, "")
	m.write("rotate/r", nil)
	second := m.read("creds/r", nil)["key_key"].(string)
	m.verifies(second, "current", 3, "")
	m.verifies(first, "previous", 1, "")
	m.write("rollback/r", nil)
	m.verifies(first, "current", 4, "")
	m.verifies(second, "previous", 3, "")
	m.write("rotate/r", d("secrets", "pin"))
	m.verifies(second, "previous", 3, "")
	m.clock.advance(20 * time.Minute) // the end of the overlap, though nobody has retired anything yet
	m.verifies(second, "", 0, "neither the current one nor a previous one")
	m.verifies(first[:len(first)-2], "", 0, "checksum")
	m.verifies("something-else", "", 0, "neither")
	m.write("rotate/r", d("revoke_previous", true))
	m.verifies(first, "", 0, "neither")
}

func TestAPIKeyVerifyRefuses(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/pin", d("type", "random"))
	const verify = "/verify"
	m.refused(logical.UpdateOperation, "api-key/r/pin"+verify, nil, "key", "is missing")
	m.refused(logical.UpdateOperation, "api-key/r/pin"+verify, d("key", ""), "key", "is missing")
	m.refused(logical.UpdateOperation, "api-key/r/pin"+verify, d("key", "presented-0123456789"), "pin", "type random, not api_key")
	m.refused(logical.UpdateOperation, "api-key/r/nope"+verify, d("key", "presented-0123456789"), `no secret "nope"`)
	m.refused(logical.UpdateOperation, "api-key/nope/pin"+verify, d("key", "presented-0123456789"), "unknown role")
	m.refused(logical.UpdateOperation, "api-key/r/pin"+verify, d("key", []any{"presented-0123456789"}), "key", "list")
}

// TestAPIKeyVerifyReadsNothing verifies while storage answers nobody.
func TestAPIKeyVerifyReadsNothing(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/key", d("type", "api_key"))
	key := m.read("creds/r/key", nil)["key"]
	m.storage.FailGet(true)
	defer m.storage.FailGet(false)
	m.storage.allowPuts(0)
	defer m.storage.allowPuts(-1)
	m.verifies(key, "current", 1, "")
}
