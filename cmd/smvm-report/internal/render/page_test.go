package render

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/cmd/smvm-report/internal/model"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// TestThePageIsSelfContained has people write what would change the page, or have
// it load something, and finds it there as text.
func TestThePageIsSelfContained(t *testing.T) {
	t.Parallel()
	const hostile = `"><script>alert(1)</script><img src=https://example.com/x onerror=alert(1)>`
	rec := rotation.Record{
		Operation: rotation.Operation{ID: "1", Kind: rotation.KindRotate, Started: now.Add(-time.Hour), Reason: hostile, Actor: rotation.Actor{DisplayName: hostile}},
		Outcome:   rotation.OutcomeFailed, Issues: []string{hostile},
		Results: []rotation.SecretResult{{Secret: "db", Type: "database", Steps: []rotation.Step{{Name: "test", DurationMS: 30, Detail: hostile}}}},
	}
	rec.Tasks = []rotation.Task{{Name: hostile, Detail: hostile}}
	note, older := rec, rec
	note.ID, note.Kind, note.Note = "2", rotation.KindNote, &rotation.Note{About: "1", Kind: rotation.NoteTraining, Text: hostile, Ticket: hostile}
	older.ID, older.Kind, older.Note = "3", rotation.KindNote, &rotation.Note{About: hostile, Kind: rotation.NoteTraining, Text: hostile, Ticket: hostile}
	s := &model.Subject{
		Kind: "role", Name: "orders", Problem: hostile, Records: []rotation.Record{rec, note, older},
		Status: model.Status{
			Attention: true, LastError: hostile, Secrets: map[string]model.Secret{"db": {Type: "database", Current: &model.Stage{Version: 2}, Previous: &model.Stage{Version: 1}}},
			Readers: model.Readers{Known: 1, Late: []model.Late{{Name: hostile}}},
		},
	}
	path := filepath.Join(t.TempDir(), "report.html")
	if err := Write(path, model.NewReport(&model.Engine{Mount: hostile, Environment: hostile, Since: now.AddDate(0, 0, -90), Subjects: []*model.Subject{s}}, now)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{"<script", "<img", "<link", "<iframe", "@import", "url(", "<object", "javascript:"} {
		if strings.Contains(string(text), never) {
			t.Errorf("the page has %s", never)
		}
	}
	if found := regexp.MustCompile(`(?:src|href)="[^#]`).Find(text); found != nil {
		t.Errorf("the page refers to something: %s", found)
	}
	if strings.Count(string(text), "&lt;script&gt;") < 15 {
		t.Error("what was written is not all there")
	}
	for _, want := range []string{`Content-Security-Policy" content="default-src 'none'`, `<html lang="en">`, `<caption>`, `scope="col"`, `scope="row"`, `role="img" aria-label="`, "<dt>Note: training</dt><dd>by &#34;", "<dt>Note about</dt><dd><code>&#34;"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// TestARecordIsTold with what became of each task and each secret: only what was decided
// has passed.
func TestARecordIsTold(t *testing.T) {
	t.Parallel()
	rec := rotation.Record{
		Operation: rotation.Operation{ID: "2", Kind: rotation.KindRollback, Started: now.Add(-time.Hour), Follows: "1", FollowsTrigger: rotation.TriggerManual, Tasks: []rotation.Task{
			{Name: "check/deleted", Done: true, Dropped: true, Detail: "removed meanwhile"},
			{Name: "check/fine", Done: true, Detail: "as expected"},
			{Name: "check/sick", Done: true, Failed: true, Detail: "status 503"},
			{Name: "check/open"},
			{Name: "check/dead", Done: true, Secrets: []string{"api"}, Finding: rotation.FoundRefused, Detail: "status 401"},
			{Name: "check/hoards", Done: true, Failed: true, Secrets: []string{"api", "jwt"}, Finding: rotation.FoundAccepted, Detail: "status 200"},
			{Name: "check/mute", Done: true, Failed: true, Secrets: []string{"jwt"}, Finding: rotation.FoundNothing, Detail: "timeout"},
		}},
		Outcome: rotation.OutcomeCompleted,
		Results: []rotation.SecretResult{
			{Secret: "none"},
			{Secret: "kept", From: 2, To: 2},
			{Secret: "first", To: 3},
			{Secret: "next", From: 2, To: 3, Steps: []rotation.Step{{Name: "retire", DurationMS: 30, OK: true, Unproven: "not proven: nobody tried"}}},
		},
	}
	path := filepath.Join(t.TempDir(), "report.html")
	s := &model.Subject{Kind: "role", Name: "orders", Records: []rotation.Record{rec}}
	if err := Write(path, model.NewReport(&model.Engine{Mount: "smvm", Since: now.AddDate(0, 0, -90), Subjects: []*model.Subject{s}}, now)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"<dt>check/deleted</dt><dd>no result: removed meanwhile<", "<dt>check/fine</dt><dd>passed: as expected<",
		"<dt>check/dead</dt><dd>the application refuses the retired value of api: status 401<", "<dt>check/mute</dt><dd>nothing shows whether the application refuses the retired value of jwt: timeout<",
		`<dt>check/hoards</dt><dd><span class="bad">the application accepts the retired value of api, jwt</span>: status 200<`,
		`<dt>check/sick</dt><dd><span class="bad">failed</span>: status 503<`, "<dt>check/open</dt><dd>not finished when this was recorded<",
		"<dt>none</dt><dd>no value<", "<dt>kept</dt><dd>version 2 kept<", "<dt>first</dt><dd>version 3<", "<dt>next</dt><dd>version 2 → 3; ",
		"retire 30 ms: done, but the refusal of the old value is not proven: nobody tried<", `<dt>Rolls back</dt><dd><a href="#1"><code>1</code></a>, trigger manual<`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// TestAPlantedLinkIsNotFollowed where others may write beside the report: what it leads to
// stays as it is, and the report is written.
func TestAPlantedLinkIsNotFollowed(t *testing.T) {
	t.Parallel()
	r := model.NewReport(&model.Engine{Mount: "smvm", Since: now.AddDate(0, 0, -90)}, now)
	for _, end := range []string{"", ".part"} {
		path, target := filepath.Join(t.TempDir(), "report.html"), filepath.Join(t.TempDir(), "target")
		if err := errors.Join(os.WriteFile(target, []byte("as it was"), 0o600), os.Symlink(target, path+end)); err != nil {
			t.Fatal(err)
		}
		if err := Write(path, r); err != nil {
			t.Errorf("a link at %q: %v", end, err)
		}
		if text, err := os.ReadFile(target); err != nil || string(text) != "as it was" {
			t.Errorf("a link at %q leads to %.20q now, %v", end, text, err)
		}
		text, err := os.ReadFile(path)
		if info, statErr := os.Lstat(path); err != nil || statErr != nil || !info.Mode().IsRegular() || !strings.Contains(string(text), "</html>") {
			t.Errorf("a link at %q: there is no report: %v, %v, %v", end, info, err, statErr)
		}
	}
}

// TestAnEmptyMountHasAPage too.
func TestAnEmptyMountHasAPage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "report.html")
	r := model.NewReport(&model.Engine{Mount: "smvm", Since: now.AddDate(0, 0, -90)}, now)
	if err := Write(path, r); err != nil || r.Headline != "There are no secrets yet." {
		t.Errorf("%q, %v", r.Headline, err)
	}
	text, err := os.ReadFile(path)
	for _, want := range []string{"The age of each secret, when it rotates, how long", "who refuses the value that was retired last.<", "or reordered; the engine may have dropped the oldest ones, and then an entry says so.<"} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %s, %v", want, err)
		}
	}
}
