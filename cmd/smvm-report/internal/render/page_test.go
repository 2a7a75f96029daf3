package render

import (
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
	s := &model.Subject{
		Kind: "role", Name: "orders", Problem: hostile, Records: []rotation.Record{rec},
		Status: model.Status{Attention: true, LastError: hostile, Secrets: map[string]model.Secret{"db": {Type: "database", Current: &model.Stage{Version: 1}}}},
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
	if strings.Count(string(text), "&lt;script&gt;") < 8 {
		t.Error("what was written is not all there")
	}
	for _, want := range []string{`Content-Security-Policy" content="default-src 'none'`, `<html lang="en">`, `<caption>`, `scope="col"`, `scope="row"`, `role="img" aria-label="`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// TestAnEmptyMountHasAPage too.
func TestAnEmptyMountHasAPage(t *testing.T) {
	t.Parallel()
	r := model.NewReport(&model.Engine{Mount: "smvm", Since: now.AddDate(0, 0, -90)}, now)
	if err := Write(filepath.Join(t.TempDir(), "report.html"), r); err != nil || r.Headline != "There are no secrets yet." {
		t.Errorf("%q, %v", r.Headline, err)
	}
}
