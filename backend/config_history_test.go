package backend

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/settings"
)

// configChanges are what is recorded of changes of the configuration, oldest first.
func (m *mount) configChanges() []map[string]any {
	m.Helper()
	var found []map[string]any
	for _, id := range m.list("config/history") {
		rec := m.read("config/history/"+id, nil)
		changes, err := json.Marshal(rec["changes"])
		if err != nil {
			m.Fatal(err)
		}
		rec["changes"] = string(changes)
		found = append(found, rec)
	}
	return found
}

// TestConfigHistory records every change, and nothing else.
func TestConfigHistory(t *testing.T) {
	m := newMount(t)
	m.read("config/history", nil)
	if got := m.list("config/history"); len(got) != 0 {
		t.Fatalf("at first there is %v", got)
	}
	m.write("config", d("environment", "test", "history_retention", 20, "overlap", "12h"))
	m.write("config", d("environment", "test"))
	m.write("config", nil)
	m.refused(logical.UpdateOperation, "config", d("environment", "other", "history_retention", 9), "history_retention")
	m.refused(logical.UpdateOperation, "config", d("history_max_age", "23h"), "history_max_age", "a day")
	m.refused(logical.UpdateOperation, "config", d("history_max_age", -1), "history_max_age")
	m.clock.advance(time.Hour)
	m.write("config", d("history_retention", 10, "history_max_age", "24h"))
	m.write("config", d("history_max_age", 0))
	got := m.configChanges()
	if len(got) != 3 {
		t.Fatalf("there are %d records: %v", len(got), got)
	}
	for i, want := range []string{
		`[{"field":"environment","from":"","to":"test"},{"field":"history_retention","from":1000,"to":20},{"field":"overlap","from":86400,"to":43200}]`,
		`[{"field":"history_max_age","from":0,"to":86400},{"field":"history_retention","from":20,"to":10}]`,
		`[{"field":"history_max_age","from":86400,"to":0}]`,
	} {
		rec := got[i]
		if rec["changes"] != want || rec["kind"] != "configure" || rec["outcome"] != "completed" || fmt.Sprint(rec["version"]) != fmt.Sprint(i+1) {
			t.Errorf("record %d is %v, want %s", i+1, rec, want)
		}
		if actor := rec["actor"].(map[string]any); actor["display_name"] == "" || actor["entity_id"] != "entity-test" || rec["vault_request_id"] == "" {
			t.Errorf("record %d does not say who: %v", i+1, rec)
		}
	}
	if got[1]["started"] != "2026-03-01T13:00:00Z" {
		t.Errorf("it was at %v", got[1]["started"])
	}
	document := m.read("config/history/"+got[1]["rotation_id"].(string), d("format", "markdown"))["markdown"].(string)
	m.tells(document, "\n- Configuration: config\n", "\n## Secrets Rotated\n- none\n", "\n## Configuration Changes\n", "\n- history_retention: 20 → 10\n", "\nEntry 2 of this history, SHA-256 ")
	m.boot()
	h := m.read("config/history", nil)
	if h["count"] != 3 || h["kept"] != 3 || h["chain_valid"] != true || len(m.lines("config/history")) != 3 {
		t.Errorf("the history is %v", h)
	}
	if config := m.read("config", nil); config["history_retention"] != 10 || config["overlap"] != int64(43200) {
		t.Errorf("after a start it is %v", config)
	}
}

// TestConfigDeleted puts the defaults back, which is a change like any other.
func TestConfigDeleted(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	defaults, role := m.read("config", nil), m.read("roles/r", nil)
	m.delete("config")
	if left := m.list("config/history"); len(left) != 0 {
		t.Errorf("where there was nothing to put back, the history has %v", left)
	}
	m.write("config", d("environment", "test", "rotation_period", "10h", "outbound_hosts", "example.com", "on_drift", "repair"))
	m.delete("config")
	for range 2 {
		if config := m.read("config", nil); fmt.Sprint(config) != fmt.Sprint(defaults) {
			t.Errorf("the configuration is %v, want %v", config, defaults)
		}
		if now := m.read("roles/r", nil); fmt.Sprint(now) != fmt.Sprint(role) {
			t.Errorf("the role is %v, want %v", now, role)
		}
		m.boot()
	}
	const want = `[{"field":"environment","from":"test","to":""},{"field":"on_drift","from":"repair","to":"report"},{"field":"outbound_hosts","from":["example.com"],"to":[]},{"field":"rotation_period","from":36000,"to":7776000}]`
	if got := m.configChanges(); len(got) != 2 || got[1]["changes"] != want || got[1]["kind"] != "configure" {
		t.Errorf("recorded is %v, want %s", got, want)
	}
}

// TestEverySettingIsRecorded finds a field of the configuration that could be changed
// without a trace.
func TestEverySettingIsRecorded(t *testing.T) {
	fields := reflect.TypeFor[settings.Settings]()
	for i := range fields.NumField() {
		field := fields.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() {
			continue
		}
		changed := settings.Settings{}
		value := reflect.ValueOf(&changed).Elem().Field(i)
		switch value.Kind() {
		case reflect.String:
			value.SetString("x")
		case reflect.Int, reflect.Int64:
			value.SetInt(int64(77 * time.Second))
		case reflect.Slice:
			value.Set(reflect.MakeSlice(field.Type, 1, 1))
		case reflect.Bool:
			value.SetBool(true)
		case reflect.Pointer:
			value.Set(reflect.New(field.Type.Elem()))
		default:
			t.Fatalf("%s is of a kind that this test does not know", field.Name)
		}
		got := rotation.Differences((&settings.Settings{}).Fields(), changed.Fields())
		if len(got) != 1 || got[0].Field != name || name == "" {
			t.Errorf("a change of %s is recorded as %v", field.Name, got)
		}
	}
}

// TestConfigOfBefore has no history, and gets one with its next change.
func TestConfigOfBefore(t *testing.T) {
	eachFixture(t, func(m *mount, _ answers) {
		m.boot()
		before := m.read("config", nil)
		if h := m.read("config/history", nil); h["count"] != 0 || h["chain_valid"] != true {
			t.Errorf("the history is %v", h)
		}
		m.write("config", d("history_retention", 50))
		got := m.configChanges()
		if want := fmt.Sprintf(`[{"field":"history_retention","from":%v,"to":50}]`, before["history_retention"]); len(got) != 1 || got[0]["changes"] != want {
			t.Errorf("it is recorded as %v, want %s", got, want)
		}
		after := m.read("config", nil)
		before["history_retention"] = 50
		if fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("the configuration is %v, want %v", after, before)
		}
	})
}

// TestConfigIsNotChangedUnseen fails storage at every write: what is in force and what
// is recorded are the same, whatever is lost in between.
func TestConfigIsNotChangedUnseen(t *testing.T) {
	m := newMount(t)
	m.write("config", d("history_retention", 20))
	m.storage.FailPut(true)
	m.fails(500, logical.UpdateOperation, "config", d("history_retention", 10), "save configuration")
	m.storage.FailPut(false)
	if got := m.read("config", nil)["history_retention"]; got != 20 || len(m.list("config/history")) != 1 {
		t.Errorf("what could not be saved is %v, in force or recorded", got)
	}
	m.write("config", d("history_retention", 10))
	// The process dies before the entry is appended.
	if err := m.storage.Delete(t.Context(), entryKey(settings.Key, 2)); err != nil {
		t.Fatal(err)
	}
	m.boot()
	h := m.read("config/history", nil)
	if h["count"] != 2 || h["chain_valid"] != true || m.read("config", nil)["history_retention"] != 10 {
		t.Errorf("after its death the history is %v", h)
	}
	m.write("config", d("history_retention", 30))
	for sequence := 1; sequence <= 3; sequence++ {
		if e, err := m.b.store.Entry(t.Context(), settings.Key, sequence); e == nil || err != nil {
			t.Errorf("entry %d is %v, %v", sequence, e, err)
		}
	}
}

// TestShrunkAndRestored lowers the limit, lets history go and raises it again: all of
// that is told, in an order that leaves nothing out.
func TestShrunkAndRestored(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/pin", d("type", "random"))
	for range 30 {
		m.write("rotate/r", d("reason", "to be hidden"))
	}
	m.write("config", d("history_retention", 10))
	if h := m.read("history/r", nil); h["kept"] != 32 {
		t.Errorf("lowering the limit alone has dropped something: %v", h)
	}
	last := m.read("history/r/"+m.list("history/r")[21], nil)
	m.write("rotate/r", nil)
	m.write("config", d("history_retention", 1000))
	if got := m.configChanges(); len(got) != 2 || got[0]["changes"] != `[{"field":"history_retention","from":1000,"to":10}]` {
		t.Errorf("the changes are %v", got)
	}
	var pruned map[string]any
	for _, id := range m.list("history/r") {
		if rec := m.read("history/r/"+id, nil); rec["kind"] == "prune" {
			pruned = rec["pruned"].(map[string]any)
		}
	}
	if pruned["head_hash"] != last["hash"] || fmt.Sprint(pruned["entries"]) != "22" || fmt.Sprint(pruned["last_sequence"]) != "22" {
		t.Errorf("what was dropped is %v, want up to %v", pruned, last["hash"])
	}
	h := m.read("history/r", nil)
	if h["chain_valid"] != true || h["base_hash"] != last["hash"] || h["kept"] != 12 {
		t.Errorf("the history is %v", h)
	}
	// Deleting the role and making it again drops nothing, and begins nothing anew.
	m.deleteRole("r")
	m.write("roles/r", nil)
	m.write("secrets/r/pin", d("type", "random"))
	if after := m.read("history/r", nil); after["count"].(int) <= h["count"].(int) || after["base_hash"] != h["base_hash"] || after["chain_valid"] != true {
		t.Errorf("made again it is %v", after)
	}
}
