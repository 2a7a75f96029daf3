package backend

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/audit"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// noted is role r with a secret that has rotated, and the id of that rotation.
func noted(m *mount) string {
	m.Helper()
	m.write("roles/r", d("rotation_period", "24h"))
	m.write("secrets/r/pin", d("type", "random"))
	return m.write("rotate/r", d("reason", "quarterly"))["rotation_id"].(string)
}

// notes are those that a record answers, as JSON.
func (m *mount) notes(path string) (found []map[string]any) {
	m.Helper()
	text, err := json.Marshal(m.read(path, nil)["notes"])
	if err != nil {
		m.Fatal(err)
	}
	if err := json.Unmarshal(text, &found); err != nil {
		m.Fatal(err)
	}
	return found
}

// TestNotesFillInTheRecord writes a note for each line of the procedure that the engine
// can't know. All that is not the history stays as it was.
func TestNotesFillInTheRecord(t *testing.T) {
	m := newMount(t)
	id := noted(m)
	command := func(kind string) string {
		return "(for a person to fill in: `vault write smvm/history/r/" + id + "/note kind=" + kind + " text=…`)\n"
	}
	m.tells(m.told("r", id), "- Responsible: the engine\n", "- Update rotation procedures: "+command("procedures"), "- Team training: "+command("training"), "Resolutions\n- none\n")
	creds, status, role := m.read("creds/r", nil), m.read("status/r", nil), m.read("roles/r", nil) // who reads creds is in status
	m.clock.advance(time.Hour)
	m.tick(0)
	planned := m.planned("r")
	for _, kind := range noteKinds {
		m.write("history/r/"+id+"/note", d("kind", kind, "text", "a text for "+kind.(string), "ticket", "OPS-12"))
	}
	m.write("history/r/"+id+"/note", d("text", "  another \n"))
	const by = "note by token-test, entity entity-test, at 2026-03-01T13:00:00Z"
	m.tells(m.told("r", id), "## Issues and Resolutions\n- "+by+", ticket OPS-12: a text for resolution\n- "+by+": another\n\n## Next Steps\n",
		"- Responsible: "+by+", ticket OPS-12: a text for responsible\n- Update rotation procedures: "+by+", ticket OPS-12: a text for procedures\n"+
			"- Team training: "+by+", ticket OPS-12: a text for training\n- "+by+", ticket OPS-12: a text for next_step\n\nEntry 3 of this history")
	notes := m.notes("history/r/" + id)
	if len(notes) != 6 {
		t.Fatalf("the record answers the notes %v", notes)
	}
	m.clock.advance(-time.Hour)
	if now := m.read("status/r", nil); !reflect.DeepEqual(now, status) {
		t.Errorf("the status was %v and is %v", status, now)
	}
	if now := m.read("creds/r", nil); !reflect.DeepEqual(now, creds) {
		t.Error("creds answers something else")
	}
	if now := m.read("roles/r", nil); !reflect.DeepEqual(now, role) || m.planned("r") != planned {
		t.Errorf("the role was %v and is %v", role, now)
	}
	m.isNote(notes[0], id)
}

// isNote reads a note's own record.
func (m *mount) isNote(note map[string]any, about string) {
	m.Helper()
	own := note["rotation_id"].(string)
	rec := m.read("history/r/"+own, nil)
	want := map[string]any{"about": about, "kind": note["kind"], "text": note["text"], "ticket": note["ticket"]}
	actor, _ := rec["actor"].(map[string]any)
	if !reflect.DeepEqual(rec["note"], want) || rec["kind"] != "note" || rec["vault_request_id"] == "" || actor["display_name"] != note["display_name"] || actor["entity_id"] != "entity-test" {
		m.Errorf("of the note %v the record is %v", note, rec)
	}
	if again, _ := json.Marshal(rec["started"]); !strings.Contains(string(again), "2026-03-01T13:00:00Z") || note["started"] != "2026-03-01T13:00:00Z" {
		m.Errorf("the note is of %s and %v", again, note["started"])
	}
	document := m.told("r", own)
	m.tells(document, "- Operation: note\n", "\n## Note\n- About: "+about+"\n- Kind: resolution\n- Ticket: OPS-12\n- Text: a text for resolution\n")
	if strings.Contains(document, "fill in") {
		m.Errorf("the record of a note asks for notes:\n%s", document)
	}
	info := m.must(m.try(logical.ListOperation, "history/r", nil))["key_info"].(map[string]any)[own].(map[string]any)
	if info["kind"] != "note" || info["display_name"] != "token-test" {
		m.Errorf("it is listed as %v", info)
	}
	m.refused(logical.UpdateOperation, "history/r/"+own+"/note", d("text", "about a note"), "id", own, "is itself a note", about)
}

// TestNotesOfEveryHistory adds notes to what has one: a connection, the configuration, and
// a role that was deleted and stays deleted.
func TestNotesOfEveryHistory(t *testing.T) {
	m := newMount(t)
	m.connect()
	m.write("config", d("environment", "test"))
	noted(m)
	m.deleteRole("r")
	for _, path := range []string{"connections/main/history", "config/history", "history/r"} {
		before := m.read(path, nil)["count"].(int)
		record := m.record(path + "/ID")
		m.write(record+"/note", d("text", "agreed with the auditors"))
		m.write(record+"/note", d("text", "agreed with the auditors"))
		if h := m.read(path, nil); h["count"] != before+1 || h["chain_valid"] != true {
			t.Errorf("%s had %d entries, and after the same note twice %v", path, before, h)
		}
		other := m.request(logical.UpdateOperation, record+"/note", d("text", "agreed with the auditors"))
		other.DisplayName = "token-other"
		m.must(m.send(other))
		m.boot()
		if notes := m.notes(record); len(notes) != 2 || notes[1]["display_name"] != "token-other" {
			t.Errorf("%s has the notes %v", record, notes)
		}
		m.tells(m.read(record, d("format", "markdown"))["markdown"].(string), "note by token-test, entity entity-test, at 2026-03-01T12:00:00Z: agreed with the auditors\n")
		if h := m.read(path, nil); h["chain_valid"] != true {
			t.Errorf("%s is %v", path, h)
		}
	}
	if names := m.list("roles"); len(names) != 0 {
		t.Errorf("a note brought back %v", names)
	}
	if config := m.read("config", nil); config["environment"] != "test" {
		t.Errorf("a note changed the configuration to %v", config)
	}
}

// TestBadNotes are refused, and add nothing.
func TestBadNotes(t *testing.T) {
	m := newMount(t)
	id := noted(m)
	about := "history/r/" + id + "/note"
	const update = logical.UpdateOperation
	m.refused(update, about, nil, "text", "is missing")
	m.refused(update, about, d("text", " \u200b "), "text", "is missing")
	m.refused(update, about, d("text", strings.Repeat("x", maxNote+1)), "text", "2049 bytes", "2048")
	m.refused(update, about, d("text", "x", "ticket", strings.Repeat("x", maxTicket+1)), "ticket", "257 bytes", "256")
	m.refused(update, about, d("text", "x", "kind", "verdict"), "kind", `"verdict"`, "resolution", "training")
	m.refused(update, "history/r/nope/note", d("text", "x"), "id", `no record "nope"`, "history of r", "rotation_id")
	m.refused(update, "history/none/"+id+"/note", d("text", "x"), "role", `"none"`)
	m.refused(update, "connections/none/history/"+id+"/note", d("text", "x"), "connection", `"none"`)
	m.refused(update, "config/history/nope/note", d("text", "x"), "id", "history of config")
	m.fails(http.StatusMethodNotAllowed, logical.ReadOperation, about, nil, "it supports: write")
	for _, r := range "\n\r\t\x00\x01\x1b\x7f\u0085\u009b\u200e\u202e\u2066" {
		m.refused(update, about, d("text", "one"+string(r)+"two"), "text")
		m.refused(update, about, d("text", "x", "ticket", "one"+string(r)+"two"), "ticket")
	}
	m.storage.FailPut(true)
	if resp, err := m.try(update, about, d("text", "not saved")); err == nil {
		t.Errorf("with storage that refuses, a note answers %v", resp)
	}
	m.storage.FailPut(false)
	m.write(about, d("text", "saved"))
	if notes := m.notes("history/r/" + id); len(notes) != 1 {
		t.Errorf("the notes are %v", notes)
	}
}

// TestNotesHoldNoValues offers every stored value as part of a note.
func TestNotesHoldNoValues(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	id := noted(m)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", s.user()))
	m.write("secrets/r/jwt", d("type", "jwt"))
	m.write("secrets/r/api", d("type", "api_key"))
	m.write("rotate/r", nil)
	current, previous := m.read("creds/r", nil), m.read("creds/r", d("stage", "previous"))
	values := []any{current["pin_value"], current["db_password"], current["jwt_secret"], current["api_key"], previous["pin_value"], previous["jwt_secret"], previous["api_key"]}
	for i, value := range values {
		for _, field := range []string{"text", "ticket"} {
			data := but(d("text", "see the ticket"), field, fmt.Sprintf("it is %v, I think", value))
			m.refused(logical.UpdateOperation, "history/r/"+id+"/note", data, field, "contains a value of secret ")
			resp, _ := m.try(logical.UpdateOperation, "history/r/"+id+"/note", data)
			if strings.Contains(resp.Error().Error(), fmt.Sprint(value)) {
				t.Errorf("the refusal of value %d repeats it", i)
			}
		}
	}
	m.write("rotate-root/main", nil)
	connection := m.record("connections/main/history/ID") + "/note"
	main, err := m.b.registry.Get(t.Context(), roles.ConnectionPrefix, "main")
	if err != nil {
		t.Fatal(err)
	}
	admin := main.Snapshot().Secrets["admin"].Current.Material["password"]
	m.refused(logical.UpdateOperation, connection, d("text", admin), "text", "secret admin")
	m.write("history/r/"+id+"/note", d("text", fmt.Sprintf("%v has been restarted, with kid %v", current["db_username"], current["jwt_kid"])))
}

// TestNotesConfirmNoGuess has somebody guess values that people have chosen: the response to
// a right guess is that to a wrong one, also where the value is the previous one.
func TestNotesConfirmNoGuess(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	id := noted(m)
	const chosen = "Winter2026-and-more"
	m.write("secrets/r/chosen", d("type", "random", "skip_import_rotation", true, "value", chosen))
	guess := func(about, text string) {
		t.Helper()
		if resp, err := m.try(logical.UpdateOperation, about+"/note", d("text", text)); err != nil || resp.IsError() {
			t.Errorf("a guess at a value is answered: %v, %v", resp, err)
		}
	}
	guess(m.record("connections/main/history/ID"), s.password)
	guess("history/r/"+id, chosen)
	m.write("rotate/r", nil)
	guess("history/r/"+id, "before: "+chosen)
	m.write("rollback/r", nil)
	guess("history/r/"+id, "again: "+chosen)
	m.refused(logical.UpdateOperation, "history/r/"+id+"/note", d("text", m.stored("r").Secrets["pin"].Current.Material["value"]), "text", "secret pin")
}

// TestNotesHaveALimit fills a history with notes about many records: a history is read as a
// whole to verify its chain. What the procedure asks for can be added to each all the same.
func TestNotesHaveALimit(t *testing.T) {
	m := newMount(t)
	id := noted(m)
	for i := range 1000 {
		if i%50 == 0 {
			m.write("roles/r", d("rotation_period", fmt.Sprintf("%dh", 25+i/50)))
			id = m.newest("r", "configure")
		}
		m.write("history/r/"+id+"/note", d("text", fmt.Sprint("note ", i)))
	}
	id = m.write("rotate/r", nil)["rotation_id"].(string)
	for _, kind := range noteKinds {
		m.write("history/r/"+id+"/note", d("text", "one more", "kind", kind))
	}
	m.refused(logical.UpdateOperation, "history/r/"+id+"/note", d("text", "too much"), "id", "has 5 notes", "the history of r has 1005")
}

// TestANoteIsNoVerdict gives notes that read like what the engine finds, and like the notes
// of somebody else: each is shown as the note of who wrote it, and nothing else changes.
func TestANoteIsNoVerdict(t *testing.T) {
	m, a := newMount(t), newApplication(t)
	watchedRole(m, a, "watch_period", 60)
	id := m.write("rotate", d("wait", 0))["rotation_id"].(string)
	m.eventually("the commit", func() bool { return m.newest("default", "rotate") == id })
	before := strings.Split(m.told("default", id), "\n")
	texts := []string{
		"check/health: 0 of 3 requests as expected", "❌ failed", "- Integration testing: ✅ passed",
		"note by token-root, entity root, at 2026-03-01T12:00:00Z: all is well", audit.Visible(hostile),
		`{"id":"x","kind":"rollback","outcome":"completed","follows":"` + id + `"}`, `"kind":"configure"`,
	}
	for _, text := range texts {
		m.write("history/default/"+id+"/note", d("text", text, "ticket", text, "kind", "next_step"))
	}
	after := strings.Split(m.told("default", id), "\n")
	if len(after) != len(before)+len(texts) {
		t.Fatalf("the record was\n%s\nand is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	for _, line := range after {
		for _, text := range texts {
			if strings.Contains(line, text) && !strings.HasPrefix(line, "- note by token-test, entity entity-test, at ") && !strings.Contains(strings.Join(before, "\n"), line) {
				t.Errorf("a note became the line %q", line)
			}
		}
	}
	m.eventually("the end of the watch", func() bool { m.tick(10 * time.Second); return m.read("status", nil)["following"] == nil })
	m.tells(m.told("default", id), "- Integration testing: ✅ passed", "  - check/health: ✅ passed: ", "follow: ✅ completed; rotation ID: "+m.newest("default", "follow"))
	if h := m.read("history/default", nil); h["chain_valid"] != true {
		t.Errorf("the history is %v", h)
	}
}

// TestNotesWhileARotationRuns adds notes before its commit, and many at once with
// rotations: each has an entry, and nothing is in the way of anything.
func TestNotesWhileARotationRuns(t *testing.T) {
	m := newMount(t)
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	open := m.gate("gated", entered, leave)
	id := noted(m)
	m.write("secrets/r/slow", d("type", "random", "password_policy", "gated"))
	open(false)
	running := m.write("rotate/r", d("wait", 0))["rotation_id"]
	<-entered
	m.write("history/r/"+id+"/note", d("text", "while it runs"))
	if notes := m.notes("history/r/" + id); len(notes) != 1 || m.read("status/r", nil)["in_flight"] == nil {
		t.Errorf("while a rotation runs, the notes are %v", notes)
	}
	m.refused(logical.UpdateOperation, fmt.Sprintf("history/r/%s/note", running), d("text", "too early"), "id", "no record")
	open(true)
	close(leave)
	m.eventually("the end of the rotation", func() bool { return m.newest("r", "rotate") == running })
	var all sync.WaitGroup
	for i := range 20 {
		note := m.request(logical.UpdateOperation, "history/r/"+id+"/note", d("text", fmt.Sprint("at once ", i)))
		rotate := m.request(logical.UpdateOperation, "rotate/r", d("secrets", "pin", "wait", 60))
		all.Go(func() {
			if resp, err := m.b.HandleRequest(t.Context(), note); err != nil || resp.IsError() {
				t.Errorf("a note answers %v, %v", resp, err)
			}
		})
		all.Go(func() {
			if _, err := m.b.HandleRequest(t.Context(), rotate); err != nil && statusOf(err) != http.StatusConflict {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if notes := m.notes("history/r/" + id); len(notes) != 21 {
		t.Errorf("%d notes are there", len(notes))
	}
	if h := m.read("history/r", nil); h["chain_valid"] != true {
		t.Errorf("the history is %v", h)
	}
}

// TestNotesLeaveOperationsAlone: a rotation that is asked for again is told what it has
// done, however many notes there are since; the state does not grow; a failure is told
// though a note came after it.
func TestNotesLeaveOperationsAlone(t *testing.T) {
	m, r := newMount(t), newReceiver(t)
	broken := m.breakable("fragile")
	m.write("roles/default", d("rotation_period", "24h", "max_retries", 1, "retry_interval", "10s"))
	m.write("secrets/default/pin", d("type", "random", "password_policy", "fragile"))
	req := m.request(logical.UpdateOperation, "rotate", nil)
	first := m.must(m.send(req))
	about := "history/default/" + first["rotation_id"].(string) + "/note"
	for i := range 49 {
		m.write(about, d("text", fmt.Sprint("note ", i)))
	}
	if again := m.must(m.b.HandleRequest(t.Context(), req)); again["rotation_id"] != first["rotation_id"] {
		t.Errorf("delivered again it is %v, want %v", again, first)
	}
	role, err := m.b.findRole(t.Context(), "default")
	if err != nil || len(role.Snapshot().Outbox) > 3 {
		t.Errorf("%d entries travel in the state, %v", len(role.Snapshot().Outbox), err)
	}
	m.clock.advance(time.Second)
	m.write("alerts/hook", d("type", "webhook", "url", r.URL+"/hook", "events", "rotation_failed,needs_attention,deleted"))
	r.set(http.StatusServiceUnavailable)
	broken(errors.New("no entropy"))
	m.clock.advance(25 * time.Hour)
	m.eventually("the failures", func() bool { m.tick(10 * time.Second); return m.read("status", nil)["needs_attention"] == true })
	m.write(about, d("text", "after the failure"))
	r.set(http.StatusOK)
	m.eventually("what was not delivered", func() bool { m.tick(time.Minute); return len(r.names()) > 2 })
	m.receives(r, "rotation_failed", "rotation_failed", "needs_attention")
	m.refused(logical.UpdateOperation, about, d("text", "one more"), "id", "50 notes", "later record")
	m.write(about, d("text", "after the failure")) // a request that is delivered again
}

// TestNotesArePruned with what is before them, the oldest first, and push nothing out. The
// chain stays valid.
func TestNotesArePruned(t *testing.T) {
	m := newMount(t)
	m.write("config", d("history_retention", 10))
	id := noted(m)
	for i := range 20 {
		m.write("history/r/"+id+"/note", d("text", fmt.Sprint("note ", i)))
	}
	m.write("rotate/r", d("revoke_previous", true))
	if h := m.read("history/r", nil); h["chain_valid"] != true || h["kept"] != h["count"] || len(m.notes("history/r/"+id)) != 20 {
		t.Errorf("notes pushed entries out: %v", h)
	}
	for range 20 {
		m.write("rotate/r", d("revoke_previous", true))
	}
	h, lines := m.read("history/r", nil), m.lines("history/r")
	if h["chain_valid"] != true || len(lines) != h["kept"] || h["base_hash"] == "" || m.read("history/r/"+id, nil) != nil {
		t.Errorf("the history is %v, and %d lines of it are exported", h, len(lines))
	}
	m.refused(logical.UpdateOperation, "history/r/"+id+"/note", d("text", "too late"), "id", "may have been dropped")
}

// TestForgedNotesAreFound changes a note in storage, takes one away, and has one be of
// somebody else.
func TestForgedNotesAreFound(t *testing.T) {
	for name, forge := range map[string]func(m *mount, key, note string) error{
		"another text": func(m *mount, key, note string) error {
			return m.storage.Put(t.Context(), &logical.StorageEntry{Key: key, Value: []byte(strings.Replace(note, "as it was", "otherwise", 1))})
		},
		"somebody else": func(m *mount, key, note string) error {
			return m.storage.Put(t.Context(), &logical.StorageEntry{Key: key, Value: []byte(strings.Replace(note, "token-test", "token-boss", 1))})
		},
		"another ticket": func(m *mount, key, note string) error {
			return m.storage.Put(t.Context(), &logical.StorageEntry{Key: key, Value: []byte(strings.Replace(note, "OPS-1", "OPS-2", 1))})
		},
		"taken away": func(m *mount, key, _ string) error { return m.storage.Delete(t.Context(), key) },
	} {
		m := newMount(t)
		id := noted(m)
		m.write("history/r/"+id+"/note", d("text", "as it was", "ticket", "OPS-1"))
		m.write("rotate/r", nil)
		m.write("rotate/r", nil)
		h := m.read("history/r", nil)
		key := fmt.Sprintf("%srole/r/%010d", historyPrefix, 4)
		note := m.storage.contents(t)[key]
		if h["chain_valid"] != true || !strings.Contains(note, "as it was") {
			t.Fatalf("entry 4 of %v is %s", h, note)
		}
		if err := forge(m, key, note); err != nil {
			t.Fatal(err)
		}
		m.boot()
		if h := m.read("history/r", nil); h["chain_valid"] != false || !strings.Contains(h["problem"].(string), "entry 4 ") {
			t.Errorf("%s: the history is %v", name, h)
		}
	}
}

// TestRecordsOfALaterVersion has an entry of a kind that this version does not know: it is
// kept, listed, told, exported and verified.
func TestRecordsOfALaterVersion(t *testing.T) {
	m := newMount(t)
	noted(m)
	const later = `{"id":"later-1","kind":"later","trigger":"manual","actor":{"display_name":"token-later"},"started":"2026-03-01T12:00:00Z","secrets":[],"role":"r","outcome":"completed","duration_ms":0,"version":2,"results":[],"later":{"only":"that version knows"}}`
	role := m.restate("r", func(s *rotation.State) {
		e := rotation.Entry{Sequence: s.History.Count + 1, PreviousHash: s.History.Head, Record: json.RawMessage(later)}
		sum := sha256.Sum256([]byte(e.PreviousHash + "\n" + later))
		e.Hash = hex.EncodeToString(sum[:])
		s.History.Count, s.History.Head, s.Outbox = e.Sequence, e.Hash, append(s.Outbox, e)
	})
	m.write("history/r/later-1/note", d("text", "what is it"))
	m.write("rotate/r", nil)
	m.write("rotate/r", nil)
	export, err := audit.Export(t.Context(), role, 0, 100)
	canonical, _ := json.Marshal(later)
	if h := m.read("history/r", nil); err != nil || h["chain_valid"] != true || h["count"] != strings.Count(string(export), "\n") || !strings.Contains(string(export), `"canonical":`+string(canonical)) {
		t.Errorf("the history is %v, and its export\n%s, %v", h, export, err)
	}
	info := m.must(m.try(logical.ListOperation, "history/r", nil))["key_info"].(map[string]any)["later-1"].(map[string]any)
	rec := m.must(m.b.HandleRequest(t.Context(), m.request(logical.ReadOperation, "history/r/later-1", nil)))
	if info["kind"] != "later" || fmt.Sprint(rec["later"]) != "map[only:that version knows]" {
		t.Errorf("it is listed as %v, and read as %v", info, rec)
	}
	m.tells(m.told("r", "later-1"), "- Operation: later\n", "- Performed by: token-later\n", ": what is it\n")
}
