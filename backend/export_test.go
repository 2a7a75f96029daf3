package backend

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/audit"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// lines reads a part of an export.
func (m *mount) lines(path string, query ...any) []map[string]any {
	m.Helper()
	data := m.read(path, d(append([]any{"format", "jsonl"}, query...)...))
	if kind := data[logical.HTTPContentType]; kind != "application/x-ndjson" {
		m.Errorf("the export is %v", kind)
	}
	var lines []map[string]any
	for text := range bytes.Lines(data[logical.HTTPRawBody].([]byte)) {
		line := map[string]any{}
		if err := json.Unmarshal(text, &line); err != nil {
			m.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

// TestExport reads a history in parts: each line is what the record's own path
// answers, and the chain can be verified from the lines alone.
func TestExport(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/pin", d("type", "random"))
	for i := range 6 {
		m.write("rotate/r", d("reason", fmt.Sprintf("number %d <&>\u2028", i)))
	}
	// A reason had line breaks before they were refused.
	r, err := m.b.findRole(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	rec := m.b.newRecord(m.request(logical.UpdateOperation, "rotate/r", nil), rotation.KindPublish, "pin", "random")
	rec.Reason = "one\n<&>\u2028two"
	if err := r.Note(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	h := m.read("history/r", nil)
	var all []map[string]any
	for after := 0; ; after = int(all[len(all)-1]["sequence"].(float64)) {
		part := m.lines("history/r", "after", after, "limit", 3)
		if len(part) == 0 {
			break
		}
		if len(part) > 3 {
			t.Errorf("%d lines were answered", len(part))
		}
		all = append(all, part...)
	}
	if len(all) != h["count"] || len(all) != len(m.lines("history/r")) {
		t.Fatalf("%d lines of %v", len(all), h)
	}
	chain := rotation.History{Count: len(all), Head: h["head_hash"].(string)}
	var entries []rotation.Entry
	for _, line := range all {
		entries = append(entries, rotation.Entry{
			Sequence: int(line["sequence"].(float64)), PreviousHash: line["previous_hash"].(string),
			Hash: line["hash"].(string), Record: json.RawMessage(line["canonical"].(string)),
		})
		text, _ := json.Marshal(m.read("history/r/"+line["rotation_id"].(string), nil))
		if again, _ := json.Marshal(line); string(again) != string(text) {
			t.Errorf("a line says\n%s\nand the record\n%s", again, text)
		}
	}
	if err := chain.VerifyChain(entries); err != nil {
		t.Error(err)
	}
	if past := m.lines("history/r", "after", 1000); len(past) != 0 {
		t.Errorf("after the end there are %d lines", len(past))
	}
}

// TestExportIsBounded has records that are long: an answer ends with the one that
// makes it long, and the next goes on there.
func TestExportIsBounded(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	for i := range 24 {
		m.write("secrets/r/"+strings.Repeat("n", 60)+fmt.Sprint(i), d("type", "random"))
	}
	for range 70 {
		m.write("rotate/r", d("wait", 60, "reason", strings.Repeat("\u2028", 341)))
	}
	sum, reads := 0, 0
	for after := 0; ; reads++ {
		part := m.lines("history/r", "after", after)
		if len(part) == 0 {
			break
		}
		if text, _ := json.Marshal(part); len(text) > audit.MaxBytes+100_000 {
			t.Errorf("an answer of %d bytes", len(text))
		}
		sum, after = sum+len(part), int(part[len(part)-1]["sequence"].(float64))
	}
	if sum != 95 || reads < 2 {
		t.Errorf("%d lines in %d answers", sum, reads)
	}
}

// TestExportAfterRetention begins with the oldest entry that is kept.
func TestExportAfterRetention(t *testing.T) {
	m := newMount(t)
	m.write("config", d("history_retention", 10))
	m.write("roles/r", nil)
	m.write("secrets/r/pin", d("type", "random"))
	for range 20 {
		m.write("rotate/r", nil)
	}
	h, lines := m.read("history/r", nil), m.lines("history/r")
	if len(lines) != h["kept"] || lines[0]["previous_hash"] != h["base_hash"] || h["base_hash"] == "" {
		t.Errorf("%d lines of %v, the first after %v", len(lines), h, lines[0]["previous_hash"])
	}
}
