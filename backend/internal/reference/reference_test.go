package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
)

// TestPageIsCurrent is about docs/reference.md, which says what the engine declares.
func TestPageIsCurrent(t *testing.T) {
	e, err := newEngine()
	if err != nil {
		t.Fatal(err)
	}
	want, err := e.page()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) == want {
		return
	}
	is, wants := strings.Split(string(got), "\n"), strings.Split(want, "\n")
	for i := range min(len(is), len(wants)) {
		if is[i] != wants[i] {
			t.Fatalf("docs/reference.md is not what the engine declares; run: make reference\nline %d is\n%s\nand has to be\n%s", i+1, is[i], wants[i])
		}
	}
	t.Fatalf("docs/reference.md has %d lines and has to have %d; run: make reference", len(is), len(wants))
}

// TestEverythingIsOnThePage looks for every path, operation and field of the engine's
// OpenAPI document.
func TestEverythingIsOnThePage(t *testing.T) {
	e, err := newEngine()
	if err != nil {
		t.Fatal(err)
	}
	page, err := e.page()
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range e.document.Paths {
		_, section, found := strings.Cut(page, "\n## `"+e.title(e.home(path))+"`\n")
		if !found {
			t.Errorf("there is no section about %s", path)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		for verb, o := range map[string]*framework.OASOperation{"write": item.Post, "delete": item.Delete} {
			if o != nil && !strings.Contains(section, "\n| "+verb+" | "+cell(o.Summary)) {
				t.Errorf("%s lacks %s", path, verb)
			}
		}
		section += fieldsElsewhere(page, section)
		for _, p := range item.Parameters {
			if !strings.Contains(section, "\n| `"+p.Name+"` | ") {
				t.Errorf("%s lacks %s", path, p.Name)
			}
		}
		if item.Post != nil && item.Post.RequestBody != nil {
			for name := range e.schema(item.Post.RequestBody.Content) {
				if !strings.Contains(section, "\n| `"+name+"` | ") {
					t.Errorf("%s lacks %s", path, name)
				}
			}
		}
	}
}

// fieldsElsewhere is the section to which another one leaves its fields; empty if that
// has them all.
func fieldsElsewhere(page, section string) string {
	_, link, found := strings.Cut(section, "fields are those of [`")
	if !found {
		return ""
	}
	title, _, _ := strings.Cut(link, "`")
	_, other, _ := strings.Cut(page, "\n## `"+title+"`\n")
	other, _, _ = strings.Cut(other, "\n## ")
	return other
}

// TestOperationsAreDistinct is about what generators of clients call operations: two of
// one name would have one answer.
func TestOperationsAreDistinct(t *testing.T) {
	e, err := newEngine()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for path, item := range e.document.Paths {
		for _, o := range operations(path, item) {
			if other := seen[o.OperationID]; other != "" {
				t.Errorf("%s is %s %s and %s", o.OperationID, o.verb, path, other)
			}
			seen[o.OperationID] = o.verb + " " + path
		}
	}
}

// TestOpenAPI writes the document of a release twice.
func TestOpenAPI(t *testing.T) {
	var texts [2]string
	for i := range texts {
		file := filepath.Join(t.TempDir(), "openapi.json")
		if err := run("", file); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
	}
	if texts[0] != texts[1] {
		t.Error("the document is another one each time")
	}
	var document framework.OASDocument
	if err := json.Unmarshal([]byte(texts[0]), &document); err != nil {
		t.Fatal(err)
	}
	if document.Info.Version != "v0.1.0" || document.Paths["/rotate/{role}"] == nil || document.Paths["/rotate/{role}"].Post == nil {
		t.Errorf("it is of %q and has %d paths", document.Info.Version, len(document.Paths))
	}
}
