package backend

import (
	"net/http"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// operation declares one operation of a path: what it does in a sentence, and
// the fields of its answer. Whoever only reads may be served by any node.
func operation(handler framework.OperationFunc, summary string, fields map[string]*framework.FieldSchema) *framework.PathOperation {
	return &framework.PathOperation{
		Callback:  handler,
		Summary:   summary,
		Responses: responses(fields),
	}
}

// mutation is operation for what changes something: only the node that may write
// serves it.
func mutation(handler framework.OperationFunc, summary string, fields map[string]*framework.FieldSchema) *framework.PathOperation {
	op := operation(handler, summary, fields)
	op.ForwardPerformanceStandby = true
	op.ForwardPerformanceSecondary = true
	return op
}

// responses declares the answer of an operation; without fields it is empty.
func responses(fields map[string]*framework.FieldSchema) map[int][]framework.Response {
	if fields == nil {
		return map[int][]framework.Response{http.StatusNoContent: {{Description: http.StatusText(http.StatusNoContent)}}}
	}
	return map[int][]framework.Response{http.StatusOK: {{Description: http.StatusText(http.StatusOK), Fields: fields}}}
}

// listFields is the answer of every list.
func listFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"keys":     {Type: framework.TypeStringSlice, Description: "The names."},
		"key_info": {Type: framework.TypeMap, Description: "The most important facts about each name."},
	}
}

// attributes names the operations of a path for OpenAPI. The suffix has one part
// for each permutation of the pattern, separated by a bar.
func attributes(verb, suffix string) *framework.DisplayAttributes {
	return &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: verb, OperationSuffix: suffix}
}

// field declares a field of a request or an answer.
func field(t framework.FieldType, description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: t, Description: description}
}

// nameField declares a name that is part of the path.
func nameField(description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: framework.TypeString, Description: description, Required: true}
}

// defaultRole is the role that paths without a role act on.
const defaultRole = "default"

// roleName returns the role that a request is about.
func roleName(d *framework.FieldData) string {
	if name := d.Get("role").(string); name != "" {
		return name
	}
	return defaultRole
}

// optionalRole is the pattern for paths that act on the default role when they
// end before its name. framework.OptionalParamRegex would also take creds/a/b.
func optionalRole(path string) string { return path + "(/" + framework.GenericNameRegex("role") + ")?" }

// oneLine removes the line breaks that make long help texts readable in source.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// listResponse answers a list, with what is known about each name.
func listResponse(names []string, info map[string]any) *logical.Response {
	return logical.ListResponseWithInfo(names, info)
}

// textResponse answers bytes as they are, not as JSON.
func textResponse(contentType string, body []byte) *logical.Response {
	return &logical.Response{Data: map[string]any{
		logical.HTTPStatusCode: http.StatusOK, logical.HTTPContentType: contentType, logical.HTTPRawBody: body,
	}}
}
