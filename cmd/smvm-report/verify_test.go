package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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
	for _, write := range []func(string) string{
		func(text string) string { return strings.TrimSuffix(text, "\n") },
		func(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") },
		func(text string) string { return strings.ReplaceAll(text, "\n", "\n\n") },
	} {
		path := filepath.Join(t.TempDir(), "export.jsonl")
		if err := os.WriteFile(path, []byte(write(strings.Join(lines, "\n")+"\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := verifyFile(path, hashOf(lines[4]), io.Discard); err != nil {
			t.Errorf("with other line ends: %v", err)
		}
	}
}

// TestNotesAreVerified as all entries are: whole, with another text, and missing.
func TestNotesAreVerified(t *testing.T) {
	t.Parallel()
	lines := exported(5)
	lines[2] = sealed(lines[2], `{"id":"n","kind":"note","trigger":"manual","actor":{"display_name":"token-ops","entity_id":"e1"},"started":"2026-03-01T12:00:00Z","secrets":[],"role":"orders","outcome":"completed","duration_ms":0,"version":2,"results":[],"note":{"about":"id-2","kind":"resolution","text":"as it was","ticket":"OPS-12"}}`)
	lines[3] = linked(lines[3], lines[2])
	lines[4] = linked(lines[4], lines[3])
	if out, err := verified(t, lines, hashOf(lines[4])); err != nil || !strings.Contains(out, "orders: entries 1 to 5 are intact") {
		t.Errorf("whole: %s, %v", out, err)
	}
	for said, otherwise := range map[string]string{"as it was": "otherwise", "OPS-12": "OPS-13", "token-ops": "token-boss", "id-2": "id-1"} {
		forged := slices.Clone(lines)
		forged[2] = strings.ReplaceAll(forged[2], said, otherwise)
		if _, err := verified(t, forged); err == nil || !strings.Contains(err.Error(), "entry 3 was changed") {
			t.Errorf("with %s for %s: %v", otherwise, said, err)
		}
		forged[2] = strings.Replace(lines[2], said, otherwise, 1)
		if _, err := verified(t, forged); err == nil || !strings.Contains(err.Error(), "entry 3") {
			t.Errorf("with %s for %s in one place: %v", otherwise, said, err)
		}
	}
	if _, err := verified(t, slices.Delete(slices.Clone(lines), 2, 3)); err == nil || !strings.Contains(err.Error(), "entry 3 is missing") {
		t.Errorf("taken away: %v", err)
	}
}

// hashOf is the hash in a line.
func hashOf(line string) string {
	var e struct{ Hash string }
	_ = json.Unmarshal([]byte(line), &e)
	return e.Hash
}

// TestACutExportIsFound has the newest entries missing, which only the engine's newest
// hash tells.
func TestACutExportIsFound(t *testing.T) {
	t.Parallel()
	lines := exported(5)
	newest := hashOf(lines[4])
	if out, err := verified(t, lines[:3]); err != nil || !strings.Contains(out, "This check can't show whether newer entries are missing") {
		t.Errorf("without -head: %s, %v", out, err)
	}
	if out, err := verified(t, lines[:3], newest); err == nil || !strings.Contains(err.Error(), "it ends with entry 3, and no entry in it has the hash "+newest) || out != "" {
		t.Errorf("cut: %s, %v", out, err)
	}
	if out, err := verified(t, lines, newest); err != nil || !strings.Contains(out, "to 5 are intact") || strings.Contains(out, "not") {
		t.Errorf("whole: %s, %v", out, err)
	}
	// The history may have grown after its newest hash was read.
	if out, err := verified(t, lines, hashOf(lines[2])); err != nil || !strings.Contains(out, "orders: entries 1 to 3 are intact") || !strings.Contains(out, "It proves the entries up to that.\nIt does not prove the newer entries, up to entry 5: ") {
		t.Errorf("grown: %s, %v", out, err)
	}
	if out, err := verified(t, lines, "default.head"); err == nil || !strings.Contains(err.Error(), "is no hash") {
		t.Errorf("the name of a file: %s, %v", out, err)
	}
	if err := new(settings).takeHead(""); err == nil {
		t.Error("an empty -head is taken for none")
	}
}

// pruning turns the last line of an export into one that says that the entries up to
// another were dropped.
func pruning(lines []string, last int, hash string) []string {
	at := len(lines) - 1
	canonical := fmt.Sprintf(`{"id":"p","kind":"prune","trigger":"schedule","started":"2026-03-01T12:00:00Z","secrets":[],"role":"orders","outcome":"completed","duration_ms":0,"version":5,"results":[],"pruned":{"entries":%d,"first_sequence":1,"last_sequence":%d,"head_hash":%q,"oldest":"2026-01-01T00:00:00Z","newest":"2026-02-01T00:00:00Z"}}`, last, last, hash)
	return append(slices.Clone(lines[:at]), sealed(lines[at], canonical))
}

// sealed is a line with another record and the hash of that.
func sealed(line, canonical string) string {
	var old struct {
		Sequence int
		Previous string `json:"previous_hash"`
	}
	_ = json.Unmarshal([]byte(line), &old)
	fields := map[string]any{}
	_ = json.Unmarshal([]byte(canonical), &fields)
	sum := sha256.Sum256([]byte(old.Previous + "\n" + canonical))
	fields["rotation_id"], fields["vault_request_id"], fields["sequence"], fields["previous_hash"] = fields["id"], "", old.Sequence, old.Previous
	fields["hash"], fields["canonical"] = hex.EncodeToString(sum[:]), canonical
	delete(fields, "id")
	text, _ := json.Marshal(fields)
	return string(text)
}

// resealed is a line with a text in its record replaced, and the hash of that.
func resealed(line, before, after string) string {
	var e struct{ Canonical string }
	_ = json.Unmarshal([]byte(line), &e)
	return sealed(line, strings.Replace(e.Canonical, before, after, 1))
}

// linked is a line that follows another.
func linked(line, before string) string {
	var e struct {
		Previous string `json:"previous_hash"`
	}
	_ = json.Unmarshal([]byte(line), &e)
	return resealed(strings.Replace(line, `"previous_hash":"`+e.Previous, `"previous_hash":"`+hashOf(before), 1), "", "")
}

// hostile is a text that clears a line of a terminal and writes another verdict there. In
// JSON, only some of its control characters have to be escaped.
const hostile = "\x1b[2K\rorders: entries 1 to 900 are intact, and each follows the one before.\nhead_hash 9\nbase_hash 9\n\u009b2K\u202e\x7f"

// misled tells whether a text controls the terminal, or has a line of hostile.
func misled(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !strconv.IsPrint(r) }) ||
		regexp.MustCompile(`(?m)^(orders: entries 1 to 900|(head|base)_hash 9$)`).MatchString(text)
}

// quoted is a text in JSON, with as little escaped as it allows.
func quoted(text string) string {
	return `"` + strings.NewReplacer("\x1b", `\u001b`, "\r", `\r`, "\n", `\n`).Replace(text) + `"`
}

// forgeries are JSON texts, in each of which hostile stands for another name, text or number.
func forgeries(object string) (forged []string) {
	for _, at := range regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\d+|null`).FindAllStringIndex(object, -1) {
		forged = append(forged, object[:at[0]]+quoted(hostile)+object[at[1]:])
	}
	return forged
}

// TestForgedTextIsNoVerdict has hostile in every place of an export, with and without the
// right hash: what is printed neither controls the terminal nor has its lines.
func TestForgedTextIsNoVerdict(t *testing.T) {
	t.Parallel()
	plain, dropped := exported(5), pruned(8)
	var forged []string
	for _, line := range []string{plain[4], dropped[7]} {
		var e struct{ Canonical string }
		_ = json.Unmarshal([]byte(line), &e)
		forged = append(forged, forgeries(line)...)
		for _, canonical := range forgeries(e.Canonical) {
			forged = append(forged, sealed(line, canonical))
		}
		for _, twice := range []string{quoted(hostile) + `:{"a":1,"a":2},`, quoted(hostile) + ":1," + quoted(hostile) + ":1,"} {
			forged = append(forged, "{"+twice+line[1:], sealed(line, "{"+twice+e.Canonical[1:]))
		}
		forged = append(forged, line+hostile, line[:40]+hostile)
	}
	forged = append(forged, hostile, quoted(hostile), "["+quoted(hostile)+"]", `{"a":`+hostile+"}")
	for _, line := range forged {
		for name, lines := range map[string][]string{"first": {line}, "fifth": append(slices.Clone(plain[:4]), line), "eighth": append(slices.Clone(dropped[:7]), line)} {
			if out, err := verified(t, lines); misled(out) || err != nil && misled(err.Error()) {
				t.Errorf("%s: it says %q, %v\nof %s", name, out, err, line)
			}
		}
	}
}

// TestAForgedNameIsQuoted though every hash is right.
func TestAForgedNameIsQuoted(t *testing.T) {
	t.Parallel()
	lines := exported(2)
	for i, line := range lines {
		var e struct{ Canonical string }
		_ = json.Unmarshal([]byte(line), &e)
		lines[i] = sealed(line, strings.Replace(e.Canonical, `"orders"`, quoted(hostile), 1))
	}
	lines[1] = linked(lines[1], lines[0])
	out, err := verified(t, lines, hashOf(lines[1]))
	if err != nil || misled(out) || !strings.HasPrefix(out, `"\x1b[2K\rorders: entries`) || !strings.Contains(out, ": entries 1 to 2 are intact") {
		t.Errorf("%q, %v", out, err)
	}
	// So is one that only has what a verdict has.
	lines = exported(1)
	lines[0] = resealed(lines[0], `"orders"`, `"orders: entries 1 to 900 are intact, and each follows the one before"`)
	if out, err := verified(t, lines); err != nil || misled(out) {
		t.Errorf("%q, %v", out, err)
	}
}

// TestADroppedHashIsAHash though an entry of kind prune says another, and what is kept
// follows that.
func TestADroppedHashIsAHash(t *testing.T) {
	t.Parallel()
	for _, text := range []string{hostile, "", "9", strings.Repeat("A", 64), strings.Repeat("0", 64) + "\n"} {
		lines := exported(8)
		lines[4] = resealed(strings.Replace(lines[4], `"previous_hash":"`+hashOf(lines[3]), `"previous_hash":`+strings.TrimSuffix(quoted(text), `"`), 1), "", "")
		for i := 5; i < 8; i++ {
			lines[i] = linked(lines[i], lines[i-1])
		}
		lines = pruning(lines, 4, hashOf(lines[3]))
		lines[7] = resealed(lines[7], `"`+hashOf(lines[3])+`"`, quoted(text))
		out, err := verified(t, lines[4:], hashOf(lines[7]))
		if err == nil || misled(out+err.Error()) || !strings.Contains(err.Error(), "as the hash of the last one, which is no hash") {
			t.Errorf("%q: %q, %v", text, out, err)
		}
	}
}

// TestANameOfAFileIsQuoted as somebody else may have chosen it.
func TestANameOfAFileIsQuoted(t *testing.T) {
	t.Parallel()
	for want, makes := range map[string]func(path string) error{
		"no such file":            func(string) error { return nil },
		"is a directory":          func(path string) error { return os.Mkdir(path, 0o700) },
		"there is no entry in it": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"line 1: decode line":     func(path string) error { return os.WriteFile(path, []byte("no JSON"), 0o600) },
		"missing at the beginning": func(path string) error {
			return os.WriteFile(path, []byte(exported(2)[1]), 0o600)
		},
		"no entry in it has the hash": func(path string) error {
			return os.WriteFile(path, []byte(exported(1)[0]), 0o600)
		},
	} {
		path := filepath.Join(t.TempDir(), hostile)
		if err := makes(path); err != nil {
			t.Fatal(err)
		}
		if err := verifyFile(path, strings.Repeat("0", 64), io.Discard); err == nil || misled(err.Error()) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q, want %s", err, want)
		}
	}
	if err := verifyFile(os.DevNull, hostile, io.Discard); err == nil || misled(err.Error()) {
		t.Errorf("-head: %q", err)
	}
}

// pruned is a history of n entries, of which two say that older ones were dropped.
func pruned(n int) []string {
	lines := exported(n)
	for _, prune := range []struct{ at, last int }{{6, 2}, {n, 4}} {
		copy(lines, pruning(lines[:prune.at], prune.last, hashOf(lines[prune.last-1])))
		for i := prune.at; i < n; i++ {
			lines[i] = linked(lines[i], lines[i-1])
		}
	}
	return lines
}

// TestAPrunedExportVerifies has one that begins behind what was dropped, one that was
// kept from before the newest entries were dropped, and one that has all of them still.
func TestAPrunedExportVerifies(t *testing.T) {
	t.Parallel()
	lines := pruned(8)
	for _, from := range []int{0, 2, 4} {
		out, err := verified(t, lines[from:], hashOf(lines[7]))
		if err != nil || !strings.Contains(out, "entry 8: entries 1 to 4, of 2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z, were dropped; the hash of the last was "+hashOf(lines[3])) || strings.Contains(out, "base_hash") != (from > 0) {
			t.Errorf("from %d: %s, %v", from, out, err)
		}
	}
	for _, from := range []int{0, 2, 3} {
		last := 3
		if from == 2 {
			last = 4 // more was dropped than is missing, and the rest is another
		}
		if out, err := verified(t, pruning(exported(8), last, strings.Repeat("0", 64))[from:]); err == nil || !strings.Contains(err.Error(), "entry 8 says that entries up to") {
			t.Errorf("another past, from %d: %s, %v", from, out, err)
		}
	}
}

// TestAMissingBeginningIsFound has files of which the oldest lines were cut off, though
// the engine did not drop them, with the right newest hash.
func TestAMissingBeginningIsFound(t *testing.T) {
	t.Parallel()
	const unsaid = "and no entry of kind prune says that the engine dropped exactly these. Export the history again from its first entry"
	plain, dropped := exported(8), pruned(8)
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"nothing was dropped":            {plain[3:], "entries 1 to 3 are missing at the beginning, " + unsaid},
		"the last line only":             {plain[7:], "entries 1 to 7 are missing at the beginning, " + unsaid},
		"more than was dropped":          {dropped[5:], "entry 5 is missing at the beginning: the newest entry of kind prune, entry 8, says that only entries up to 4 were dropped"},
		"all but the one that says so":   {dropped[7:], "entries 5 to 7 are missing at the beginning: the newest"},
		"the newest that says so is cut": {dropped[4:7], "entries 3 to 4 are missing at the beginning: the newest entry of kind prune, entry 6,"},
		"less than was dropped":          {dropped[3:], "entries 1 to 3 are missing at the beginning, " + unsaid},
	} {
		if out, err := verified(t, c.lines, hashOf(c.lines[len(c.lines)-1])); err == nil || !strings.Contains(err.Error(), c.want) || out != "" {
			t.Errorf("%s: %s, %v; want %q", name, out, err, c.want)
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
		"the hash":         {edit(4, `"hash":"`, `"hash":"0`), "line 5: entry 5 was changed"},
		"the link":         {edit(4, `"previous_hash":"`, `"previous_hash":"0`), "line 5: entry 5 was changed"},
		"an invented past": {edit(0, `"previous_hash":"`, `"previous_hash":"0`), "line 1: entry 1 was changed"},
		"an invented past with its hash": {func(l []string) []string {
			l[0] = resealed(edit(0, `"previous_hash":"`, `"previous_hash":"0`)(l)[0], "", "")
			return l
		}, "line 1: entry 1 was changed: it follows a hash"},
		"an entry with its hash": {func(l []string) []string {
			l[2] = resealed(l[2], "why", "not")
			return l
		}, "line 4: entry 3 or the link to it was changed: entry 4 follows another hash"},
		"the last with its hash": {func(l []string) []string {
			l[4] = resealed(l[4], "why", "not")
			return l
		}, "no entry in it has the hash"},
		"all from an entry on": {func(l []string) []string {
			l[2] = resealed(l[2], "why", "not")
			l[3] = linked(l[3], l[2])
			l[4] = linked(l[4], l[3])
			return l
		}, "no entry in it has the hash"},
		"the number":              {edit(2, `"sequence":3`, `"sequence":4`), "line 3: entry 3 is missing"},
		"a field less":            {edit(2, `"outcome":"completed",`, ``), "line 3: the fields of entry 3 differ from its canonical text"},
		"a field in capitals":     {edit(2, `{`, `{"Reason":"not",`), "line 3: the fields of entry 3 differ from its canonical text"},
		"the outcome":             {edit(2, `"outcome":"completed"`, `"outcome":"failed"`), "line 3: the fields of entry 3 differ from its canonical text"},
		"the request":             {edit(2, `"vault_request_id":""`, `"vault_request_id":"r"`), "line 3: the fields of entry 3 differ from its canonical text"},
		"a field twice":           {edit(2, `"reason":`, `"reason":"not","reason":`), `line 3: decode line: it has the field "reason" twice`},
		"a field twice, after":    {edit(2, `"reason":`, `"results":null,"reason":`), `line 3: decode line: it has the field "results" twice`},
		"a field within twice":    {edit(2, `{`, `{"more":[{"a":{"b":1,"b":2}}],`), `line 3: decode line: it has the field "b" twice`},
		"a field escaped":         {edit(2, `"reason":`, `"re\u0061son":"not","reason":`), `line 3: decode line: it has the field "reason" twice`},
		"twice in the record":     {func(l []string) []string { l[2] = resealed(l[2], `"kind":`, `"kind":"retire","kind":`); return l }, `line 3: decode line: it has the field "kind" twice`},
		"no record":               {edit(2, `"canonical":"`, `"Canonical":"`), "line 3: the fields of entry 3 differ from its canonical text"},
		"no JSON":                 {edit(2, `{`, `[`), "line 3: decode line"},
		"no JSON first":           {edit(0, `{`, `[`), "line 1: decode line"},
		"no JSON last":            {edit(4, `{`, `[`), "line 5: decode line"},
		"two on one line":         {func(l []string) []string { return slices.Replace(l, 2, 4, l[2]+l[3]) }, "line 3: decode line"},
		"a dropped line":          {func(l []string) []string { return slices.Delete(l, 1, 2) }, "line 2: entry 2 is missing"},
		"a dropped line, counted": {func(l []string) []string { return slices.Delete(edit(2, `"sequence":3`, `"sequence":2`)(l), 1, 2) }, "line 2: entry 1 or the link to it was changed: entry 2 follows another hash"},
		"the first lines":         {func(l []string) []string { return l[2:] }, "entries 1 to 2 are missing at the beginning"},
		"the last lines":          {func(l []string) []string { return l[:3] }, "no entry in it has the hash"},
		"a doubled line":          {func(l []string) []string { return slices.Insert(l, 1, l[0]) }, "line 2: entry 2 is missing"},
		"another order":           {func(l []string) []string { l[1], l[2] = l[2], l[1]; return l }, "line 2: entry 2 is missing"},
		"another order first":     {func(l []string) []string { l[0], l[1] = l[1], l[0]; return l }, "line 2: entry 3 is missing"},
		"another order last":      {func(l []string) []string { l[3], l[4] = l[4], l[3]; return l }, "line 4: entry 4 is missing"},
		"a line cut short":        {func(l []string) []string { l[4] = l[4][:50]; return l }, "line 5: decode line"},
		"two histories in one":    {func(l []string) []string { l[4] = strings.ReplaceAll(l[4], "orders", "others"); return l }, "line 5: entry 5 belongs to the history of others"},
		"nothing":                 {func([]string) []string { return nil }, "there is no entry in it"},
	} {
		if out, err := verified(t, c.tamper(exported(5)), hashOf(exported(5)[4])); err == nil || !strings.Contains(err.Error(), c.want) {
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
	script, whole, dropped := byHand(t), exported(4), pruned(8)
	for i := range whole {
		whole[i] = resealed(whole[i], "why <&>", `why \"\\\\n\u2028 é`)
		if i > 0 {
			whole[i] = linked(whole[i], whole[i-1])
		}
	}
	head := hashOf(whole[3])
	forged := func(at int, line string) []string { return slices.Replace(slices.Clone(whole), at, at+1, line) }
	edited := func(before, after string) []string { return forged(1, strings.Replace(whole[1], before, after, 1)) }
	const fine, missing = "canonical texts are complete and unchanged up to entry 4\n", "no entry has this hash: entries are missing at the end, or this is another history\n"
	for name, c := range map[string]struct {
		lines []string
		head  string
		want  string
	}{
		"whole":                       {whole, head, fine},
		"no final newline":            {whole, head, fine},
		"empty lines":                 {[]string{whole[0], "", whole[1], whole[2], whole[3], "", ""}, head, fine},
		"other line ends":             {strings.Split(strings.Join(whole, "\r\n")+"\r", "\n"), head, fine},
		"a field beside":              {edited(`"reason":"why`, `"reason":"not`), head, fine},
		"newer entries":               {whole, hashOf(whole[2]), "canonical texts are complete and unchanged up to entry 3\nthis hash does not prove the newer entries, up to entry 4\n"},
		"a dropped line":              {slices.Delete(slices.Clone(whole), 1, 2), head, "entry 2 is missing\n"},
		"a dropped line, counted":     {slices.Delete(edited(`"sequence":2`, `"sequence":1`), 0, 1), head, "entry 1 or the one before it was changed\n"},
		"another number":              {edited(`"sequence":2`, `"sequence":3`), head, "entry 2 is missing\n"},
		"a command for a number":      {forged(0, strings.Replace(whole[0], `"sequence":1`, `"sequence":"a[$(touch here)]"`, 1)), head, "jq: error"},
		"no JSON":                     {edited("{", "["), head, "parse error"},
		"a changed hash":              {edited(`"hash":"`, `"hash":"0`), head, "entry 2 or the one before it was changed\n"},
		"a changed text":              {edited(`\"version\":2`, `\"version\":3`), head, "entry 2 or the one before it was changed\n"},
		"a character that is no text": {edited(`\"version\":2`, `\u0000\"version\":2`), head, "entry 2 or the one before it was changed\n"},
		"an entry with its hash":      {forged(1, resealed(whole[1], "why", "not")), head, "entry 3 or the one before it was changed\n"},
		"the last with its hash":      {forged(3, resealed(whole[3], "why", "not")), head, missing},
		"cut short":                   {whole[:2], head, missing},
		"nothing":                     {nil, head, "entry 1 is missing\n"},
		"no head":                     {whole, "", missing},
		"no hash as the head":         {whole, hostile, missing},
		"no hash as a hash":           {edited(`"hash":"`, `"hash":`+strings.TrimSuffix(quoted(hostile), `"`)), head, "base64: invalid input"},
		"no number":                   {edited(`"sequence":2`, `"sequence":`+quoted(hostile)), head, "jq: error"},
		"pruned":                      {dropped[4:], hashOf(dropped[7]), "entries up to 4 were dropped, as an entry of kind prune says\ncanonical texts are complete and unchanged up to entry 8\n"},
		"kept from before":            {dropped[2:], hashOf(dropped[7]), "entries up to 2 were dropped, as an entry of kind prune says\ncanonical texts are complete and unchanged up to entry 8\n"},
		"more missing than dropped":   {dropped[5:], hashOf(dropped[7]), "entries up to 5 are missing, and no entry of kind prune says that they were dropped\n"},
		"nothing was dropped":         {whole[2:], head, "entries up to 2 are missing, and no entry of kind prune says that they were dropped\n"},
		"another past":                {pruning(exported(8), 4, head)[4:], head, "entries up to 4 were dropped, as an entry of kind prune says\nentry 5 or the one before it was changed\n"},
	} {
		dir := t.TempDir()
		end := "\n"
		if name == "no final newline" {
			end = ""
		}
		for file, text := range map[string]string{"jsonl": strings.Join(c.lines, "\n") + end, "head": c.head} {
			if err := os.WriteFile(filepath.Join(dir, "history-default."+file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-c", strings.ReplaceAll(script, "histories/", ""))
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		got := string(out)
		if !strings.HasSuffix(c.want, "\n") {
			got = got[:min(len(got), len(c.want))]
		}
		if got != c.want || misled(string(out)) || (err == nil) != strings.Contains(c.want, "unchanged") {
			t.Errorf("%s: %v: %s; want %s", name, err, out, c.want)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
			t.Errorf("%s: the file ran a command: %v, %v", name, left, err)
		}
	}
}
