package backend

import (
	"context"
	"fmt"
	"maps"
	"regexp"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// fastPaths are the paths that applications ask for all day, by their patterns: they
// change nothing, and any node may serve them. Their handlers are called without the
// framework, which would ask Vault for its replication state at every request: a
// call that takes longer than all the rest.
type fastPaths map[*framework.Path]*regexp.Regexp

func newFastPaths(paths ...*framework.Path) fastPaths {
	d := fastPaths{}
	for _, path := range paths {
		d[path] = regexp.MustCompile("^" + path.Pattern + "$")
	}
	return d
}

// handle calls the handler of a path: by itself, or through the framework.
func (d fastPaths) handle(ctx context.Context, b *framework.Backend, path *framework.Path, req *logical.Request) (*logical.Response, error) {
	pattern := d[path]
	if pattern == nil || path.Operations[req.Operation] == nil {
		return b.HandleRequest(ctx, req)
	}
	fields := &framework.FieldData{Raw: captured(pattern, req), Schema: path.Fields}
	if err := fields.Validate(); err != nil {
		return logical.ErrorResponse(fmt.Sprintf("Field validation failed: %s", err.Error())), nil //nolint:nilerr // it is the answer
	}
	return path.Operations[req.Operation].Handler()(ctx, req, fields)
}

// captured are the fields of a request: those of its body, and those in its path.
func captured(pattern *regexp.Regexp, req *logical.Request) map[string]any {
	raw := maps.Clone(req.Data)
	if raw == nil {
		raw = map[string]any{}
	}
	parts := pattern.FindStringSubmatch(req.Path)
	for i, name := range pattern.SubexpNames() {
		if name != "" {
			raw[name] = parts[i]
		}
	}
	return raw
}
