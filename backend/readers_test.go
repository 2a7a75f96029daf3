package backend

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/usage"
)

// as sends a request of an entity, and returns its answer.
func (m *mount) as(entity, path string, data map[string]any) (*logical.Response, error) {
	m.Helper()
	op := logical.Operation(logical.ReadOperation)
	if strings.HasSuffix(path, "/verify") {
		op = logical.UpdateOperation
	}
	req := m.request(op, path, data)
	req.DisplayName, req.EntityID = "approle", entity
	if entity == "" {
		req.DisplayName = "token-batch"
	}
	req.Connection = &logical.Connection{RemoteAddr: "192.0.2." + fmt.Sprint(len(entity))}
	return m.send(req)
}

// readers is what status says of the readers of role r, and the ids or names of those
// that are late.
func (m *mount) readers() (all map[string]any, late []string) {
	m.Helper()
	all = m.read("status/r", nil)["readers"].(map[string]any)
	for _, one := range all["late"].([]map[string]any) {
		late = append(late, one["entity_id"].(string))
	}
	return all, late
}

// knows checks how many readers of role r status counts, and who is late.
func (m *mount) knows(known, current int, late ...string) {
	m.Helper()
	all, names := m.readers()
	if all["known"] != known || all["current"] != current || all["late_count"] != len(late) || fmt.Sprint(names) != fmt.Sprint(late) {
		m.Errorf("status says %v; want %d readers, of whom %d are current, and late are %v", all, known, current, late)
	}
}

// rotating is a mount whose role r has a key and a token key.
func rotating(t *testing.T) *mount {
	t.Helper()
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "24h", "overlap", "2h"))
	m.write("secrets/r/key", d("type", "api_key"))
	m.write("secrets/r/jwt", d("type", "jwt"))
	return m
}

// TestReaders follows readers of each kind through a rotation, and over a restart.
func TestReaders(t *testing.T) {
	m := rotating(t)
	m.system.EntityVal = &logical.Entity{Name: "orders-3", Aliases: []*logical.Alias{{Name: "a1b2", MountType: "approle"}, {Name: "shop\x1b[2J", MountType: "kubernetes"}}}
	before := m.must(m.as("one", "creds/r", nil))
	m.must(m.as("two", "creds/r/key", nil))
	m.must(m.as("three", "creds/r", nil))
	m.must(m.as("", "creds/r", nil))
	m.knows(4, 4)
	firstRead := m.clock.now()
	m.clock.advance(time.Minute)
	m.must(m.as("three", "creds/r", nil))
	m.clock.advance(time.Minute)
	m.write("rotate/r", nil)
	m.knows(4, 0, "", "one", "two", "three")
	m.must(m.as("one", "creds/r", d("if_version", before["version"])))
	m.must(m.as("two", "creds/r/key", d("if_version", before["version"].(int)+1)))
	m.must(m.as("three", "creds/r", d("stage", "previous")))
	after := m.must(m.as("", "creds/r", nil))
	m.knows(4, 3, "three")

	cutOver := m.clock.now()
	status := m.read("status/r", nil)
	late := status["readers"].(map[string]any)["late"].([]map[string]any)[0]
	for field, want := range d(
		"name", "approle", "entity_id", "three", "entity", "orders-3", "aliases", []string{"a1b2 (approle)", "shop [2J (kubernetes)"}, "address", "192.0.2.5",
		"version", before["version"], "first_read", timestamp(firstRead), "last_read", timestamp(cutOver), "late_since", timestamp(cutOver),
	) {
		if fmt.Sprint(late[field]) != fmt.Sprint(want) {
			t.Errorf("%s of a late reader is %v, want %v", field, late[field], want)
		}
	}
	words := fmt.Sprintf("orders-3, entity three, has version %v, last read at %v", before["version"], timestamp(cutOver))
	m.overlaps("Readers that have the current version: 3 of 4. Late: "+words+".", "would cut off those who use the previous values of jwt, key")
	for _, line := range []string{"readers: 3 of 4 have the current version\n", fmt.Sprintf("late: %s; late since %v\n", words, timestamp(cutOver))} {
		if !strings.Contains(status["report"].(string), line) {
			t.Errorf("the report lacks %q:\n%s", line, status["report"])
		}
	}
	for _, line := range []string{`smvm_readers{name="r",state="current",subject="role"} 3`, `smvm_readers{name="r",state="late",subject="role"} 1`} {
		if !strings.Contains(m.scrape(), line+"\n") {
			t.Errorf("there is no line %s", line)
		}
	}

	m.saved(fmt.Sprintf(`"name":"token-batch","address":"192.0.2.0","version":%v,`, after["version"])) // who read last
	m.boot()
	m.eventually("the readers to be known after a restart", func() bool { all, _ := m.readers(); return all["known"] == 4 })
	m.knows(4, 3, "three")
	m.clock.advance(2 * time.Hour)
	m.tick(0)
	m.overlapOver("key")
	m.knows(3, 3)
	m.deleteRole("r")
	m.tick(0)
	m.eventually("the readers of a deleted role to be gone", func() bool { return m.savedReaders() == "" })
}

// savedReaders is what is stored of the readers of role r.
func (m *mount) savedReaders() string {
	m.Helper()
	entry, err := m.storage.Get(m.Context(), usage.Prefix+"role/r")
	if err != nil {
		m.Fatal(err)
	}
	if entry == nil {
		return ""
	}
	return string(entry.Value)
}

// saved waits until that is stored of the readers, and no value with them.
func (m *mount) saved(part string) {
	m.Helper()
	m.tick(0)
	m.eventually("the readers to be stored", func() bool { return strings.Contains(m.savedReaders(), part) })
	m.storage.findIn(m.T, m.savedReaders())
}

// TestRotationForReaders has readers of two versions stored: those that a second
// rotation leaves without a value that works are forgotten.
func TestRotationForReaders(t *testing.T) {
	m := rotating(t)
	m.must(m.as("stopped", "creds/r", nil))
	m.write("rotate/r", nil)
	m.must(m.as("slow", "creds/r", nil))
	m.knows(2, 1, "stopped")
	m.write("rollback/r", nil)
	m.knows(2, 1, "slow") // who has stopped has what is current again
	m.write("rotate/r", d("revoke_previous", true))
	m.knows(0, 0)
	m.write("config", d("environment", "test"))
	if text := m.read("status/r", nil)["report"].(string); strings.Contains(text, "readers:") {
		t.Errorf("the report says of nobody:\n%s", text)
	}
}

// TestNobodyReads: a request without identity is nobody.
func TestNobodyReads(t *testing.T) {
	m := rotating(t)
	req := m.request(logical.ReadOperation, "creds/r", nil)
	req.DisplayName, req.EntityID = "", ""
	m.must(m.send(req))
	m.knows(0, 0)
}

// standby starts another backend over the storage, as on a node that serves reads and
// may not write.
func (m *mount) standby(state consts.ReplicationState) *mount {
	m.Helper()
	other := *m
	other.b = nil
	other.system = &logical.StaticSystemView{ReplicationStateVal: state}
	other.boot()
	return &other
}

// forwards sends a request, and checks whether it has to be forwarded.
func (m *mount) forwards(want bool, entity, path string, data map[string]any) {
	m.Helper()
	resp, err := m.as(entity, path, data)
	if got := err == logical.ErrReadOnly; got != want || err != nil && !got || err == nil && resp.IsError() { //nolint:errorlint // as Vault compares it
		m.Errorf("%s of %s %v: it is forwarded: %v; %v, %v", path, entity, data, got, err, resp)
	}
}

// TestStandby is about nodes that serve reads: the active node hears of each reader's
// first read of a version, and of each use of a previous value, and says who is late.
func TestStandby(t *testing.T) {
	for name, state := range map[string]consts.ReplicationState{
		"performance standby": consts.ReplicationPerformanceStandby, "performance secondary": consts.ReplicationPerformanceSecondary,
	} {
		t.Run(name, func(t *testing.T) {
			m := rotating(t)
			token := m.write("jwt/r/jwt/sign", d("claims", d("sub", "orders")))["token"]
			key := m.read("creds/r", nil)["key_key"]
			node := m.standby(state)
			node.forwards(true, "one", "creds/r", nil)
			for range 3 {
				node.forwards(false, "one", "creds/r", nil)
				node.forwards(false, "one", "creds/r/key", d("if_version", 3))
			}
			node.forwards(true, "two", "creds/r/key", nil)
			node.forwards(true, "", "creds/r", nil)
			node.forwards(false, "one", "api-key/r/key/verify", d("key", key))
			node.forwards(false, "one", "jwt/r/jwt/verify", d("token", token))
			node.forwards(true, "one", "status/r", nil)
			if text := node.scrape(); strings.Contains(text, "smvm_readers{") || !strings.Contains(text, "smvm_overdue{") {
				t.Error("the node counts readers of whom it knows a part")
			}

			m.write("rotate/r", nil)
			node.b.invalidate(t.Context(), "role/r")
			node.forwards(true, "one", "creds/r", nil)
			for range 3 {
				node.forwards(false, "one", "creds/r", nil)
				node.forwards(true, "one", "creds/r", d("stage", "previous"))
				node.forwards(true, "one", "api-key/r/key/verify", d("key", key))
				node.forwards(true, "one", "jwt/r/jwt/verify", d("token", token))
			}
			node.forwards(false, "one", "api-key/r/key/verify", d("key", "neither"))
			m.clock.advance(time.Hour)
			node.forwards(true, "one", "creds/r", nil)
			node.forwards(false, "one", "creds/r", nil)

			node.system.ReplicationStateVal = consts.ReplicationUnknown // it becomes the active one
			node.boot()
			node.forwards(false, "new", "creds/r", nil)
			node.forwards(false, "one", "api-key/r/key/verify", d("key", key))
			if uses := node.stage("key", "previous")["uses"]; uses != int64(1) {
				t.Errorf("the active node counts %v uses", uses)
			}
		})
	}
}

// TestLateReadersAreBounded: status asks Vault who some of them are, not all.
func TestLateReadersAreBounded(t *testing.T) {
	m := rotating(t)
	for n := range maxLate + 5 {
		m.must(m.as(fmt.Sprint("entity-", n), "creds/r", nil))
	}
	m.write("rotate/r", nil)
	if all, late := m.readers(); all["late_count"] != maxLate+5 || len(late) != maxLate {
		t.Errorf("status counts %v late readers and names %d", all["late_count"], len(late))
	}
	m.overlaps("; and 45 more readers.")
}
