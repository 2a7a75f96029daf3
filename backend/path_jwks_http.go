package backend

import (
	"mime"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// public tells whether a path is for those without a token. They come with what
// HTTP lets anybody send: queries that mean nothing here are ignored.
func public(path *framework.Path) bool {
	return strings.HasPrefix(strings.TrimPrefix(path.Pattern, "^"), "jwks/") // the framework adds the ^
}

// readable are the operations of a public path: HEAD is answered as GET is, and
// Vault leaves the body out.
func readable(op *framework.PathOperation) map[logical.Operation]framework.OperationHandler {
	return map[logical.Operation]framework.OperationHandler{logical.ReadOperation: op, logical.HeaderOperation: op}
}

// The media types of a key set: the one that RFC 7517 registered, and the one that
// some clients insist on.
const (
	keySetType = "application/jwk-set+json"
	jsonType   = "application/json"
)

// keySetTypeFor chooses the media type by the Accept of a request, of which a mount
// shows nothing unless it is tuned to. JSON is for who asks for it by name, and
// does not like the registered type as well.
func keySetTypeFor(accept []string) string {
	named := map[string]float64{}
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		name, parameters, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		named[name] = 1
		if quality, ok := parameters["q"]; ok {
			named[name], _ = strconv.ParseFloat(quality, 64) // 0 is "not this one"
		}
	}
	if named[jsonType] > named[keySetType] {
		return jsonType
	}
	return keySetType
}

// entityTag is one tag of a list. If-None-Match compares weakly, so W/ does not
// matter.
var entityTag = regexp.MustCompile(`(?:W/)?("[^"]*")`)

// noneMatch tells whether an If-None-Match has the tag, as RFC 9110 has it.
func noneMatch(fields []string, tag string) bool {
	for _, field := range fields {
		if strings.TrimSpace(field) == "*" {
			return true
		}
		for _, given := range entityTag.FindAllStringSubmatch(field, -1) {
			if given[1] == tag {
				return true
			}
		}
	}
	return false
}
