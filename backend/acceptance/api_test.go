package acceptance

import (
	"encoding/json"
	"net/http"
	"path"
	"slices"
	"strings"
)

// endpoint is one operation of one path, as the engine itself declares it.
type endpoint struct {
	method, path string
	// fields may stand in the body, query in the URL.
	fields, query []string
}

// list is the method of endpoints that list.
const list = "LIST"

// endpoints asks the engine for all that it has, so that no test forgets a path.
func (e *engine) endpoints() []endpoint {
	e.Helper()
	var help struct {
		OpenAPI openAPI `json:"openapi"`
	}
	answer := e.raw().do(http.MethodGet, "?help=1", nil)
	if err := json.Unmarshal(answer.body, &help); err != nil || len(help.OpenAPI.Paths) == 0 {
		e.Fatalf("the engine does not describe itself: %v: %s", err, answer.cause())
	}
	return help.OpenAPI.endpoints()
}

type openAPI struct {
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas map[string]struct{ Properties map[string]any }
	}
}

type openAPIOperation struct {
	Parameters  []struct{ Name, In string }
	RequestBody struct {
		Content map[string]struct {
			Schema struct {
				Ref string `json:"$ref"`
			}
		}
	}
}

func (o openAPI) endpoints() []endpoint {
	var found []endpoint
	for template, operations := range o.Paths {
		for method, raw := range operations {
			var op openAPIOperation
			if !slices.Contains([]string{"get", "post", "delete"}, method) || json.Unmarshal(raw, &op) != nil {
				continue
			}
			found = append(found, o.endpoint(method, template, op))
		}
	}
	slices.SortFunc(found, func(a, b endpoint) int { return strings.Compare(a.path+" "+a.method, b.path+" "+b.method) })
	return found
}

func (o openAPI) endpoint(method, template string, op openAPIOperation) endpoint {
	e := endpoint{method: strings.ToUpper(method), path: strings.TrimPrefix(template, "/")}
	if strings.HasSuffix(template, "/") {
		e.method = list
	}
	for _, parameter := range op.Parameters {
		if parameter.In == "query" {
			e.query = append(e.query, parameter.Name)
		}
	}
	for _, content := range op.RequestBody.Content {
		for name := range o.Components.Schemas[path.Base(content.Schema.Ref)].Properties {
			e.fields = append(e.fields, name)
		}
	}
	slices.Sort(e.fields)
	return e
}
