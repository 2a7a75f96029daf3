package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// exported is a history of n entries as the engine exports it.
func exported(n int) []string {
	var lines []string
	previous := ""
	for i := 1; i <= n; i++ {
		canonical := fmt.Sprintf(`{"id":"id-%d","kind":"rotate","trigger":"manual","started":"2026-03-01T12:00:00Z","secrets":["db"],"reason":"why <&>","role":"orders","outcome":"completed","duration_ms":5,"version":%d,"results":null}`, i, i)
		sum := sha256.Sum256([]byte(previous + "\n" + canonical))
		line := map[string]any{}
		_ = json.Unmarshal([]byte(canonical), &line)
		line["rotation_id"], line["vault_request_id"] = line["id"], ""
		delete(line, "id")
		line["sequence"], line["previous_hash"], line["hash"], line["canonical"] = i, previous, hex.EncodeToString(sum[:]), canonical
		previous = hex.EncodeToString(sum[:])
		text, _ := json.Marshal(line)
		lines = append(lines, string(text))
	}
	return lines
}

// verified runs -verify on lines, with -head unless that is empty.
func verified(t *testing.T, lines []string, head ...string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "export.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err := verifyFile(path, strings.Join(head, ""), &out)
	return out.String(), err
}

func TestAWholeExportVerifies(t *testing.T) {
	t.Parallel()
	lines := exported(5)
	out, err := verified(t, append(lines, "")) // the vault command ends with an empty line
	if err != nil || !strings.Contains(out, "orders: entries 1 to 5 are intact") || strings.Contains(out, "base_hash") {
		t.Errorf("%s, %v", out, err)
	}
	out, err = verified(t, lines[2:])
	if err != nil || !strings.Contains(out, "entries 3 to 5 are intact") || !strings.Contains(out, "base_hash ") {
		t.Errorf("what retention left: %s, %v", out, err)
	}
}

// TestACutExportIsFound has the newest entries missing, which only the engine's newest
// hash tells.
func TestACutExportIsFound(t *testing.T) {
	t.Parallel()
	lines := exported(5)
	var newest struct{ Hash string }
	_ = json.Unmarshal([]byte(lines[4]), &newest)
	if out, err := verified(t, lines[:3]); err != nil || !strings.Contains(out, "This does not show whether newer entries are missing") {
		t.Errorf("without -head: %s, %v", out, err)
	}
	if out, err := verified(t, lines[:3], newest.Hash); err == nil || !strings.Contains(err.Error(), "it ends with entry 3, and no entry in it has the hash "+newest.Hash) || out != "" {
		t.Errorf("cut: %s, %v", out, err)
	}
	for _, from := range []int{0, 2} {
		if out, err := verified(t, lines[from:], newest.Hash); err != nil || !strings.Contains(out, "to 5 are intact") || strings.Contains(out, "does not show") {
			t.Errorf("whole, from %d: %s, %v", from, out, err)
		}
	}
	// The history may have grown after its newest hash was read.
	var third struct{ Hash string }
	_ = json.Unmarshal([]byte(lines[2]), &third)
	if out, err := verified(t, lines, third.Hash); err != nil {
		t.Errorf("grown: %s, %v", out, err)
	}
	if err := new(settings).takeHead(""); err == nil {
		t.Error("an empty -head is taken for none")
	}
}

// pruning turns the last line of an export into one that says that the entries up to
// another were dropped.
func pruning(lines []string, last int, hash string) []string {
	at := len(lines) - 1
	line := map[string]any{}
	_ = json.Unmarshal([]byte(lines[at]), &line)
	canonical := fmt.Sprintf(`{"id":"p","kind":"prune","trigger":"schedule","started":"2026-03-01T12:00:00Z","secrets":[],"role":"orders","outcome":"completed","duration_ms":0,"version":5,"results":[],"pruned":{"entries":%d,"first_sequence":1,"last_sequence":%d,"head_hash":%q,"oldest":"2026-01-01T00:00:00Z","newest":"2026-02-01T00:00:00Z"}}`, last, last, hash)
	sealed := map[string]any{}
	_ = json.Unmarshal([]byte(canonical), &sealed)
	delete(sealed, "id")
	sum := sha256.Sum256([]byte(line["previous_hash"].(string) + "\n" + canonical))
	sealed["rotation_id"], sealed["vault_request_id"], sealed["sequence"], sealed["previous_hash"] = "p", "", line["sequence"], line["previous_hash"]
	sealed["hash"], sealed["canonical"] = hex.EncodeToString(sum[:]), canonical
	text, _ := json.Marshal(sealed)
	return append(slices.Clone(lines[:at]), string(text))
}

// TestAPrunedExportVerifies has one that begins behind what was dropped, one that has
// it still, because it was kept from before, and one that begins later.
func TestAPrunedExportVerifies(t *testing.T) {
	t.Parallel()
	lines := exported(8)
	var third struct{ Hash string }
	_ = json.Unmarshal([]byte(lines[2]), &third)
	for _, from := range []int{0, 3, 5} {
		out, err := verified(t, pruning(lines, 3, third.Hash)[from:])
		if err != nil || !strings.Contains(out, "entry 8: entries 1 to 3, of 2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z, were dropped; the hash of the last was "+third.Hash) {
			t.Errorf("from %d: %s, %v", from, out, err)
		}
	}
	for _, from := range []int{0, 2, 3} {
		last := 3
		if from == 2 {
			last = 4 // more was dropped than is missing, and the rest is another
		}
		if out, err := verified(t, pruning(lines, last, strings.Repeat("0", 64))[from:]); err == nil || !strings.Contains(err.Error(), "entry 8 says that entries up to") {
			t.Errorf("another past, from %d: %s, %v", from, out, err)
		}
	}
}

func TestATamperedExportIsFound(t *testing.T) {
	t.Parallel()
	edit := func(i int, before, after string) func([]string) []string {
		return func(l []string) []string {
			l[i] = strings.Replace(l[i], before, after, 1)
			return l
		}
	}
	for name, c := range map[string]struct {
		tamper func([]string) []string
		want   string
	}{
		"a field":            {edit(2, `"reason":"why`, `"reason":"not`), "line 3: the fields of entry 3 differ from its canonical text"},
		"a field more":       {edit(2, `{`, `{"more":1,`), "line 3: the fields of entry 3 differ from its canonical text"},
		"the canonical text": {edit(2, `\"version\":3`, `\"version\":4`), "line 3: the fields of entry 3 differ from its canonical text"},
		"both": {func(l []string) []string {
			return edit(2, `\"version\":3`, `\"version\":4`)(edit(2, `"version":3`, `"version":4`)(l))
		}, "line 3: entry 3 was changed"},
		"the hash":             {edit(4, `"hash":"`, `"hash":"0`), "line 5: entry 5 was changed"},
		"the link":             {edit(4, `"previous_hash":"`, `"previous_hash":"0`), "line 5: entry 5 does not follow entry 4"},
		"an invented past":     {edit(0, `"previous_hash":"`, `"previous_hash":"0`), "line 1: entry 1 does not follow entry 0"},
		"a dropped line":       {func(l []string) []string { return slices.Delete(l, 1, 2) }, "line 2: entry 2 is missing"},
		"a doubled line":       {func(l []string) []string { return slices.Insert(l, 1, l[0]) }, "line 2: entry 2 is missing"},
		"another order":        {func(l []string) []string { l[1], l[2] = l[2], l[1]; return l }, "line 2: entry 2 is missing"},
		"a line cut short":     {func(l []string) []string { l[4] = l[4][:50]; return l }, "line 5: decode line"},
		"two histories in one": {func(l []string) []string { l[4] = strings.ReplaceAll(l[4], "orders", "others"); return l }, "line 5: entry 5 belongs to the history of others"},
		"nothing":              {func([]string) []string { return nil }, "there is no entry in it"},
	} {
		if out, err := verified(t, c.tamper(exported(5))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s, %v; want %q", name, out, err, c.want)
		}
	}
	if err := verifyFile(os.DevNull, "", os.Stdout); err == nil || !strings.Contains(err.Error(), "there is no entry") {
		t.Errorf("an empty file: %v", err)
	}
}

func TestPeriods(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"90d": "2160h0m0s", "1d": "24h0m0s", "12h": "12h0m0s", "90": "", "-1d": "", "0d": "", "1d2": "", "1h d": "", "": ""} {
		got, err := parsePeriod(text)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}

// byHand is the function of docs/audit.md that verifies an export without smvm-report.
func byHand(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "audit.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, function, found := strings.Cut(string(page), "```sh\nverify() (")
	function, _, ended := strings.Cut(function, "```")
	if !found || !ended {
		t.Fatal("docs/audit.md has no function verify")
	}
	return "verify() (" + function
}

// TestThePageVerifiesByHand runs the commands of docs/audit.md as somebody types them: in
// a shell that goes on after a command that fails.
func TestThePageVerifiesByHand(t *testing.T) {
	t.Parallel()
	script, whole, forged := byHand(t), exported(3), exported(3)
	hash := func(line string) string {
		var e struct{ Hash string }
		_ = json.Unmarshal([]byte(line), &e)
		return e.Hash
	}
	// Somebody who changes an entry gives it a hash that is right.
	var entry map[string]any
	_ = json.Unmarshal([]byte(forged[1]), &entry)
	entry["canonical"] = strings.Replace(entry["canonical"].(string), "why", "not", 1)
	sum := sha256.Sum256([]byte(entry["previous_hash"].(string) + "\n" + entry["canonical"].(string)))
	entry["hash"] = hex.EncodeToString(sum[:])
	text, _ := json.Marshal(entry)
	forged[1] = string(text)
	const fine = "history complete and unchanged\n"
	for name, c := range map[string]struct {
		lines []string
		base  string
		want  string
	}{
		"whole":           {whole, "", fine},
		"a dropped line":  {slices.Delete(slices.Clone(whole), 1, 2), "", "entry 3 does not follow the one before\n"},
		"a changed hash":  {slices.Replace(slices.Clone(whole), 1, 2, strings.Replace(whole[1], `"hash":"`, `"hash":"0`, 1)), "", "entry 2 was changed\n"},
		"a changed entry": {forged, "", "entry 3 does not follow the one before\n"},
		"cut short":       {whole[:2], "", "entries are missing at the end\n"},
		"nothing":         {nil, "", "entries are missing at the end\n"},
		"pruned":          {whole[1:], hash(whole[0]), fine},
		"another base":    {whole[1:], "", "entry 2 does not follow the one before\n"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "default.jsonl"), []byte(strings.Join(slices.Concat(c.lines, []string{""}), "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		run := strings.Replace(script, `"$head"`, `"$head" "$base"`, 1)
		cmd := exec.CommandContext(t.Context(), "bash", "-c", "head="+hash(whole[2])+" base="+c.base+"\n"+run)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if string(out) != c.want || (err == nil) != (c.want == fine) {
			t.Errorf("%s: %v: %s; want %s", name, err, out, c.want)
		}
	}
}
