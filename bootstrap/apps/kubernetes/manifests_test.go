// Package kubernetes holds manifests. Its test checks them against the schemas
// that the operators themselves install in a cluster.
package kubernetes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// resource is what matters of a manifest.
type resource struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name, Namespace string }
	Spec       map[string]any
}

// definition is what matters of a CRD.
type definition struct {
	Spec struct {
		Group    string
		Names    struct{ Kind string }
		Versions []struct {
			Name   string
			Served bool
			Schema struct {
				OpenAPI schema `yaml:"openAPIV3Schema"`
			}
		}
	}
}

// schema is the part of OpenAPI that these CRDs use.
type schema struct {
	Type        string
	Required    []string
	Properties  map[string]*schema
	Items       *schema
	Additional  *schema `yaml:"additionalProperties"`
	Enum        []any
	Pattern     string
	Default     any
	IntOrString bool `yaml:"x-kubernetes-int-or-string"`
	Preserve    bool `yaml:"x-kubernetes-preserve-unknown-fields"`
}

// TestManifests checks every manifest here.
func TestManifests(t *testing.T) {
	schemas := loadSchemas(t)
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no manifests: %v", err)
	}
	for _, file := range files {
		for _, r := range documents[resource](t, file) {
			s := schemas[r.APIVersion+" "+r.Kind]
			if s == nil {
				t.Errorf("%s: no operator serves %s %s", file, r.APIVersion, r.Kind)
				continue
			}
			for _, problem := range s.Properties["spec"].check(r.Kind+".spec", r.Spec) {
				t.Errorf("%s: %s", file, problem)
			}
		}
	}
}

// TestCheck makes sure that check finds what is wrong.
func TestCheck(t *testing.T) {
	s := schema{Type: "object", Required: []string{"path"}, Properties: map[string]*schema{
		"path": {Type: "string", Pattern: "^a"}, "list": {Type: "array", Items: &schema{Type: "boolean"}}, "kind": {Type: "string", Enum: []any{"x"}},
	}}
	for name, value := range map[string]map[string]any{
		"is required": {}, "is not known": {"path": "a", "pth": "a"}, "has to be": {"path": "a", "list": []any{"no"}},
		"does not match": {"path": "b"}, "is none of": {"path": "a", "kind": "y"},
	} {
		if problems := s.check("spec", value); len(problems) != 1 || !strings.Contains(problems[0], name) {
			t.Errorf("%v: want one problem that says %q, got %q", value, name, problems)
		}
	}
}

// loadSchemas returns the schemas by API version and kind.
func loadSchemas(t *testing.T) map[string]*schema {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "../../../scripts/get-crds.sh").Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		t.Fatalf("get CRDs: %v: %s", err, exit.Stderr)
	}
	schemas := map[string]*schema{}
	for dir := range strings.FieldsSeq(string(out)) {
		files, err := filepath.Glob(filepath.Join(dir, "*.io_*.yaml"))
		more, moreErr := filepath.Glob(filepath.Join(dir, "*.com_*.yaml"))
		if err := errors.Join(err, moreErr); err != nil {
			t.Fatal(err)
		}
		for _, file := range append(files, more...) {
			for _, d := range documents[definition](t, file) {
				for _, v := range d.Spec.Versions {
					if v.Served {
						schemas[d.Spec.Group+"/"+v.Name+" "+d.Spec.Names.Kind] = &v.Schema.OpenAPI
					}
				}
			}
		}
	}
	return schemas
}

// documents decodes all documents of a file.
func documents[T any](t *testing.T, path string) (found []T) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var document T
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		found = append(found, document)
	}
}

// check returns what is wrong with a value. A field that the schema does not know
// is wrong too: Kubernetes would drop it without a word.
func (s *schema) check(at string, value any) (problems []string) {
	if s.Enum != nil && !slices.Contains(s.Enum, value) {
		problems = append(problems, fmt.Sprintf("%s is none of %v", at, s.Enum))
	}
	switch v := value.(type) {
	case map[string]any:
		return append(problems, s.checkObject(at, v)...)
	case []any:
		if s.Type != "array" {
			return append(problems, fmt.Sprintf("%s has to be of type %s", at, s.Type))
		}
		for i, item := range v {
			problems = append(problems, s.Items.check(fmt.Sprintf("%s[%d]", at, i), item)...)
		}
		return problems
	}
	wanted := map[string]string{"string": "string", "bool": "boolean", "int": "integer"}[fmt.Sprintf("%T", value)]
	if s.Type != wanted && !s.IntOrString && !s.Preserve {
		return append(problems, fmt.Sprintf("%s has to be of type %s", at, s.Type))
	}
	if text, ok := value.(string); ok && s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(text) {
		problems = append(problems, fmt.Sprintf("%s does not match %s", at, s.Pattern))
	}
	return problems
}

func (s *schema) checkObject(at string, object map[string]any) (problems []string) {
	if s.Type != "object" {
		return []string{fmt.Sprintf("%s has to be of type %s", at, s.Type)}
	}
	for _, name := range s.Required {
		// Kubernetes fills in defaults before it checks.
		if _, ok := object[name]; !ok && (s.Properties[name] == nil || s.Properties[name].Default == nil) {
			problems = append(problems, fmt.Sprintf("%s.%s is required", at, name))
		}
	}
	for name, value := range object {
		switch property := s.Properties[name]; {
		case property != nil:
			problems = append(problems, property.check(at+"."+name, value)...)
		case s.Additional != nil:
			problems = append(problems, s.Additional.check(at+"."+name, value)...)
		case !s.Preserve:
			problems = append(problems, fmt.Sprintf("%s.%s is not known", at, name))
		}
	}
	return problems
}
