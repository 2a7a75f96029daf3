package backend

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestNewerFormat boots on storage in which a later version has written one entry
// in a format of its own, as after a downgrade. That entry is refused by name, and
// is never overwritten; all others go on.
func TestNewerFormat(t *testing.T) {
	for key, spoilt := range map[string][]string{
		"role/orders":     {"rotate/orders", "rollback/orders", "roles/orders", "secrets/orders/jwt", "creds/orders", "status/orders", "verify/orders", "history/orders"},
		"connection/main": {"rotate-root/main", "connections/main", "connections/main/history", "creds/orders", "creds/legacy/db"},
	} {
		t.Run(key, func(t *testing.T) {
			eachFixture(t, func(m *mount, _ answers) {
				newer := m.inNewerFormat(key)
				m.boot()
				for _, path := range spoilt {
					m.refusesNewer(key, path)
				}
				version := m.read("status/weekly", nil)["version"].(int)
				m.tick(7 * 24 * time.Hour)
				m.becomes("weekly", version+1)
				m.write("rotate/manual", nil)
				if got := m.storage.contents(t)[key]; got != newer {
					t.Errorf("the entry of a newer format became %s", got)
				}
				for _, words := range []string{"cannot be read and are left alone", key, "install the version that wrote it"} {
					if !strings.Contains(m.said.text(), words) {
						t.Errorf("the log does not say %q", words)
					}
				}
			})
		})
	}
}

// schemaOf finds what every entry begins with.
var schemaOf = regexp.MustCompile(`^{"schema":\d+,`)

// inNewerFormat rewrites an entry as the version after this one may write it.
func (m *mount) inNewerFormat(key string) string {
	m.Helper()
	entry, err := m.storage.Get(m.Context(), key)
	if err != nil || entry == nil {
		m.Fatalf("%s is not as expected: %v", key, err)
	}
	is := schemaOf.FindString(string(entry.Value))
	if is == "" {
		m.Fatalf("%s does not begin with its format", key)
	}
	newer := strings.Replace(string(entry.Value), is, fmt.Sprintf(`{"schema":%d,"later":["only that version knows"],`, rotation.Schema+1), 1)
	if err := m.storage.Put(m.Context(), &logical.StorageEntry{Key: key, Value: []byte(newer)}); err != nil {
		m.Fatal(err)
	}
	return newer
}

// refusesNewer uses a path in every way it has. What it says must name the entry
// and what to do.
func (m *mount) refusesNewer(key, path string) {
	m.Helper()
	for op := range m.b.Route(path).Operations {
		if op == logical.ListOperation || op == logical.CreateOperation {
			continue
		}
		data := map[string]any(nil)
		if op == logical.UpdateOperation && strings.HasPrefix(path, "verify") {
			data = d("repair", true)
		}
		m.fails(500, op, path, data, key, fmt.Sprintf("has format %d", rotation.Schema+1), "install the version that wrote it")
	}
}
