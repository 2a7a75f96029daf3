package backend

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

func TestBadOperation(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/key", d("type", "api_key"))
	m.write("roles/empty", nil)
	const read, list = logical.ReadOperation, logical.ListOperation
	unknown := []string{"role", "unknown role", "nope", "there is: empty, r"}
	m.refuse([]bad{
		{"rotate unknown role", "", "rotate/nope", nil, unknown},
		{"rotate without default", "", "rotate", nil, []string{"unknown role", "default", "roles/default first"}},
		{"rotate without secrets", "", "rotate/empty", nil, []string{"empty", "secrets/empty/<secret> first"}},
		{"rotate unknown secret", "", "rotate/r", d("secrets", "nope"), []string{"secrets", "nope", "it has: key"}},
		{"rotate a secret twice", "", "rotate/r", d("secrets", "key,key"), []string{"secrets", "key", "twice"}},
		{"rotate, wait too long", "", "rotate/r", d("wait", 61), []string{"wait", "from 0s to 1m"}},
		{"rotate, wait negative", "", "rotate/r", d("wait", "-1s"), []string{"wait", "negative"}},
		{"rotate, long reason", "", "rotate/r", d("reason", strings.Repeat("x", 1025)), []string{"reason", "limit is 1024"}},
		{"rotate, role beside the path", "", "rotate", d("role", "r"), []string{"role", "path"}},
		{"dry run of unknown secret", "", "rotate/r", d("dry_run", true, "secrets", "nope"), []string{"secrets", "nope"}},
		{"roll back unknown role", "", "rollback/nope", nil, unknown},
		{"roll back nothing", "", "rollback/r", nil, []string{"previous value", "nothing was rotated yet"}},
		{"roll back unknown secret", "", "rollback/r", d("secrets", "nope"), []string{"secrets", "nope", "it has: key"}},
		{"roll back no version", "", "rollback/r", d("if_version", "newest"), []string{"if_version"}},
		{"roll back an empty version", "", "rollback/r", d("if_version", ""), []string{"if_version", "such as 7"}},
		{"roll back version 0", "", "rollback/r", d("if_version", 0), []string{"if_version", "is 0", "such as 7"}},
		{"verify unknown role", read, "verify/nope", nil, unknown},
		{"verify without secrets", read, "verify/empty", nil, []string{"secrets/empty/<secret> first"}},
		{"status of unknown role", read, "status/nope", nil, unknown},
		{"creds of unknown role", read, "creds/nope", nil, unknown},
		{"creds without values", read, "creds/empty", nil, []string{"role", "secrets/empty/<name>"}},
		{"creds of unknown secret", read, "creds/r/nope", nil, []string{"name", "nope", "it has: key", "secrets/r/nope"}},
		{"creds of another stage", read, "creds/r", d("stage", "pending"), []string{"stage", "current or previous"}},
		{"creds without previous", read, "creds/r", d("stage", "previous"), []string{"stage", "no previous value"}},
		{"creds, no version", read, "creds/r", d("if_version", "newest"), []string{"if_version"}},
		{"creds, role beside the path", read, "creds", d("role", "r"), []string{"role", "path"}},
		{"history of unknown role", read, "history/nope", nil, unknown},
		{"history list of unknown role", list, "history/nope", nil, unknown},
		{"history in another format", read, "history/r", d("format", "markdown"), []string{"format", "json or jsonl"}},
		{"history after nothing", read, "history/r", d("format", "jsonl", "after", -1), []string{"after", "or 0"}},
		{"history, no lines", read, "history/r", d("format", "jsonl", "limit", 0), []string{"limit", "from 1 to 1000"}},
		{"history, too many lines", read, "history/r", d("format", "jsonl", "limit", 1001), []string{"limit", "from 1 to 1000"}},
		{"part of a history as JSON", read, "history/r", d("limit", 5), []string{"limit", "format=jsonl only"}},
		{"history list as lines", list, "history/r", d("format", "jsonl"), []string{"format", "not for listing"}},
		{"part of a history list", list, "history/r", d("after", 5), []string{"after", "format=jsonl only"}},
		{"record of unknown role", read, "history/nope/x", nil, unknown},
		{"record in another format", read, "history/r/x", d("format", "pdf"), []string{"format", "json or markdown"}},
		{"secrets of unknown role", list, "secrets/nope", nil, unknown},
		{"rotate-root of unknown connection", "", "rotate-root/nope", nil, []string{"connection", "nope", "none yet"}},
		{"history of unknown connection", read, "connections/nope/history", nil, []string{"unknown connection", "nope"}},
	})
}

// TestBadText sends what no field can hold to every field that takes text.
func TestBadText(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/key", d("type", "api_key"))
	texts := map[string][]string{
		strings.Repeat("x", 1<<20): {"limit is 65536"},
		"not\xffUTF-8":             {"not valid UTF-8"},
		"replaced\uFFFDbyte":       {"not valid UTF-8"},
		"nul\x00byte":              {"NUL"},
	}
	for path, fields := range map[string][]string{
		"config":         {"environment"},
		"connections/c":  {"connection_url", "host", "database", "username", "password", "tls_ca", "tls_key"},
		"roles/r":        {"rotation_schedule"},
		"secrets/r/x":    {"type", "connection", "password_policy", "charset", "value", "key", "secret"},
		"rotate/r":       {"reason"},
		"rotate-root/c":  {"reason"},
		"rollback/r":     {"reason"},
		"secrets/r/key":  {"prefix"},
		"secrets/nope/x": {"value"},
		"checks/r/c":     {"tls_ca"},
		"alerts/a":       {"tls_ca"},
		"destinations/d": {"tls_ca"},
	} {
		for _, name := range fields {
			for text, words := range texts {
				if name == "tls_ca" && len(text) == 1<<20 {
					words = []string{"limit is 524288"}
				}
				m.refused(logical.UpdateOperation, path, d(name, text), append(slices.Clone(words), name)...)
			}
		}
	}
	for text, words := range texts {
		m.refused(logical.UpdateOperation, "secrets/r/x", d("usernames", []any{"good", text}), append(words, "usernames")...)
		m.refused(logical.ReadOperation, "creds/r", d("stage", text), append(words, "stage")...)
	}
}

// TestUnknownRoleBeforeAny says what to do when nothing has been set up.
func TestUnknownRoleBeforeAny(t *testing.T) {
	m := newMount(t)
	m.refused(logical.ReadOperation, "creds", nil, "unknown role", "default", "none yet", "roles/default first")
	m.refused(logical.UpdateOperation, "secrets/default/db", d("type", "database", "connection", "main", "usernames", "u"), "unknown role", "default", "roles/default first")
	m.write("roles/default", nil)
	m.refused(logical.ReadOperation, "creds", nil, "no values yet", "secrets/default/<name>")
	m.refused(logical.UpdateOperation, "secrets/default/db", d("type", "database", "connection", "main", "usernames", "u"), "connection", "main", "none yet")
	m.write("roles/other", d("rotation_period", "1h"))
	m.refused(logical.UpdateOperation, "roles/ghost", d("rotation_period", 1), "rotation_period")
	m.refused(logical.ReadOperation, "history/ghost", nil, "unknown role", "there is: default, other")
}

// TestLargeBundles takes a bundle of 512 KB wherever there is tls_ca, reads it back
// after a restart, and takes another in its place.
func TestLargeBundles(t *testing.T) {
	bundle := strings.Repeat(aCA(), maxBundle/len(aCA()))
	third := bundle[:len(bundle)/3/len(aCA())*len(aCA())]
	m := newMount(t)
	m.listed("orders.example.com")
	m.write("roles/r", nil)
	m.write("secrets/r/key", d("type", "api_key"))
	for path, data := range map[string]map[string]any{
		"connections/c":  d("host", "192.0.2.1", "database", "orders", "username", "u", "password", "password-0123456789", "verify_connection", false),
		"checks/r/c":     d("url", "https://orders.example.com/", "attempts", 1, "on_failure", "alert", "timeout", 1, "interval", 1),
		"alerts/a":       d("type", "webhook", "url", "https://orders.example.com/alerts-only", "events", "rotation_overdue"),
		"destinations/d": d("type", "webhook", "url", "https://orders.example.com/copies-only", "key", "0123456789abcdef", "values", "x={{key_key}}", "verify", false),
	} {
		for _, ca := range []string{bundle, third, bundle} {
			data["tls_ca"] = ca
			m.write(path, data)
			m.boot()
			if got := m.read(path, nil)["tls_ca"]; got != ca {
				t.Errorf("%s has %d bytes of %d", path, len(fmt.Sprint(got)), len(ca))
			}
		}
	}
	for key, value := range m.storage.contents(t) {
		if len(value) > 1<<20 {
			t.Errorf("%s has %d bytes, more than Vault's storage takes", key, len(value))
		}
	}
}
