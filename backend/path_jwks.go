package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt"
)

const discoverySuffix = "/.well-known/openid-configuration"

// publicPaths are those that need no token: those who verify tokens have none.
var publicPaths = []string{"jwks/+/+", "jwks/+/+" + discoverySuffix}

func (b *backend) pathJWKS() *framework.Path {
	return &framework.Path{
		Pattern:      keyPath("jwks", ""),
		DisplayAttrs: attributes("read", "public-keys"),
		Fields:       keyNames(),
		Operations: readable(operation(b.pathJWKSRead, "Read the public keys that verify the tokens of a secret. No Vault token is needed.", map[string]*framework.FieldSchema{
			"keys": field(framework.TypeSlice, "The keys, in the format of RFC 7517."),
		})),
		HelpSynopsis:    "Read the public keys of a secret, as a JSON Web Key Set.",
		HelpDescription: oneLine(jwksHelp),
	}
}

func (b *backend) pathJWKSDiscovery() *framework.Path {
	return &framework.Path{
		Pattern:         keyPath("jwks", `/\.well-known/openid-configuration`),
		DisplayAttrs:    attributes("read", "openid-configuration"),
		Fields:          keyNames(),
		Operations:      readable(operation(b.pathJWKSDiscoveryRead, "Read the OpenID Connect discovery document, which says where the public keys are. No Vault token is needed.", discoveryFields())),
		HelpSynopsis:    "Read the OpenID Connect discovery document of a secret.",
		HelpDescription: oneLine(discoveryHelp),
	}
}

func discoveryFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"issuer":                                field(framework.TypeString, "The issuer of the secret."),
		"jwks_uri":                              field(framework.TypeString, "URL of the public keys: the same as issuer."),
		"response_types_supported":              field(framework.TypeStringSlice, "Always id_token, which OpenID Connect requires here."),
		"subject_types_supported":               field(framework.TypeStringSlice, "Always public, which OpenID Connect requires here."),
		"id_token_signing_alg_values_supported": field(framework.TypeStringSlice, "The algorithms of the public keys."),
	}
}

// publicKeys returns what is shown to verifiers, and how long they may keep it;
// nothing if there is no such secret or it has nothing to show. It takes no lock
// that a rotation holds, and reads no storage once everything is loaded.
func (b *backend) publicKeys(ctx context.Context, d *framework.FieldData) (*jwt.Keyring, jwt.KeySet, time.Duration, error) {
	r, err := b.registry.Find(ctx, roles.Prefix, d.Get("role").(string))
	if err != nil {
		return nil, jwt.KeySet{}, 0, errUnreadable
	}
	if r == nil {
		return nil, jwt.KeySet{}, 0, nil
	}
	snapshot, now := r.Snapshot(), b.now()
	s := snapshot.Secrets[d.Get("name").(string)]
	if s == nil || s.Type != jwtType {
		return nil, jwt.KeySet{}, 0, nil
	}
	ring, err := jwt.KeyringOf(snapshot, s)
	if err != nil {
		return nil, jwt.KeySet{}, 0, errUnreadable
	}
	return ring, ring.Published(now), snapshot.Fresh(s, now), nil
}

// errUnreadable tells those who need no token that something is wrong, and not
// what. Operators find the cause in status, and in Vault's log.
var errUnreadable = errors.New("the keys can't be read now")

// pathJWKSRead corresponds to READ and HEAD on jwks/:role/:secret. Each media type
// has a tag of its own, since they are two representations.
func (b *backend) pathJWKSRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	_, set, fresh, err := b.publicKeys(ctx, d)
	if err != nil || set.Document == nil {
		return nil, err
	}
	contentType, tag := keySetTypeFor(req.Headers["Accept"]), set.ETag
	if contentType == jsonType {
		tag = strings.TrimSuffix(tag, `"`) + `.json"`
	}
	resp := document(contentType, set.Document, fresh)
	resp.Headers = map[string][]string{"ETag": {tag}, "Vary": {"Accept"}}
	if noneMatch(req.Headers["If-None-Match"], tag) {
		resp.Data[logical.HTTPStatusCode] = http.StatusNotModified
		resp.Data[logical.HTTPRawBody] = []byte{}
	}
	return resp, nil
}

// pathJWKSDiscoveryRead corresponds to READ and HEAD on
// jwks/:role/:secret/.well-known/openid-configuration.
func (b *backend) pathJWKSDiscoveryRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	ring, set, fresh, err := b.publicKeys(ctx, d)
	if err != nil || set.Document == nil || !isURL(ring.Config().Issuer) {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{
		"issuer":                                ring.Config().Issuer,
		"jwks_uri":                              ring.Config().Issuer,
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": set.Algorithms,
	})
	if err != nil {
		return nil, fmt.Errorf("encode discovery document: %w", err)
	}
	return document(jsonType, body, fresh), nil
}

// isURL reports whether an issuer is a URL, as OpenID Connect Discovery wants it.
func isURL(issuer string) bool {
	u, err := url.Parse(issuer)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.RawQuery == "" && u.Fragment == ""
}

// document answers bytes as they are, to be kept for at most as long. Up to a
// tenth of that is taken off at random, so that verifiers who have read together
// do not read together again.
func document(contentType string, body []byte, fresh time.Duration) *logical.Response {
	fresh -= rand.N(fresh/10 + 1) //nolint:gosec // It spreads load, and is no secret.
	resp := textResponse(contentType, body)
	resp.Data[logical.HTTPCacheControlHeader] = fmt.Sprintf("public, max-age=%d", rotation.Seconds(fresh))
	return resp
}

const jwksHelp = `
Returns the public keys that verify the tokens of a secret of type jwt, to everybody and
without a Vault token: the current key, the previous one during its overlap, and the
next one. The engine publishes the next key one rotation before it signs with it, so
that every application has the key by then. It never publishes HMAC keys. Cache-Control
says how long an application may keep the response: at most the role's refresh_interval, and
not past the next planned rotation or end of an overlap. If the secret's issuer is a URL,
the engine also serves an OpenID Connect discovery document below this path.`

const discoveryHelp = `
Returns the OpenID Connect discovery document of a secret of type jwt, to everybody and
without a Vault token. It tells a client that knows only the issuer of a token where the
public keys are. There is a document only if the secret's issuer is a URL. Set issuer to
the URL of jwks/<role>/<secret>: clients look for the document below the issuer, and
jwks_uri in the document is the issuer.`

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
