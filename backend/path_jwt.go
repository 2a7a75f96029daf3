package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/identitytpl"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/tripwire"
)

// keyPath is the pattern of what is done with the keys of one secret.
func keyPath(before, after string) string {
	return before + "/" + framework.GenericNameRegex("role") + "/" + framework.GenericNameRegex("name") + after
}

// keyNames declares the names in the pattern of keyPath.
func keyNames() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"role": nameField("Name of the role."),
		"name": nameField("Name of the secret, of type jwt."),
	}
}

func (b *backend) pathJWTSign() *framework.Path {
	fields := keyNames()
	fields["claims"] = field(framework.TypeMap, "The claims of the token, as a JSON object. The engine adds exp, iat, nbf and jti.")
	fields["ttl"] = field(framework.TypeDurationSecond, "How long the token is valid; max_ttl of the secret by default. A longer one is an error.")
	return &framework.Path{
		Pattern:      keyPath("jwt", "/sign"),
		DisplayAttrs: attributes("sign", "token"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			// It changes nothing, so any node may serve it.
			logical.UpdateOperation: operation(b.pathJWTSignWrite, "Make a token from claims, signed with the current key.", map[string]*framework.FieldSchema{
				"token":   sensitive("The signed token."),
				"kid":     field(framework.TypeString, "Id of the key that signed the token."),
				"expires": field(framework.TypeString, "When the token expires."),
			}),
		},
		HelpSynopsis:    "Sign a JSON Web Token.",
		HelpDescription: oneLine(jwtSignHelp),
	}
}

// pathJWTSignWrite corresponds to UPDATE on jwt/:role/:secret/sign.
func (b *backend) pathJWTSignWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	found, err := b.findSecret(ctx, d, jwtType)
	if err != nil {
		return nil, err
	}
	ring, err := jwt.KeyringOf(found.snapshot, found.secret)
	if err != nil {
		return nil, err
	}
	identity, err := b.callerClaims(req, ring.Config())
	if err != nil {
		return nil, err
	}
	claims, expires, err := ring.Config().Claims(jwt.TokenRequest{
		Claims: d.Get("claims").(map[string]any), TTL: time.Duration(d.Get("ttl").(int)) * time.Second,
		Identity: identity, Overlap: found.snapshot.Resolved.Overlap, Now: b.now(),
	})
	if err != nil {
		return nil, err
	}
	token, kid, err := ring.Sign(claims)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{"token": token, "kid": kid, "expires": timestamp(expires)}}, nil
}

// checkTemplate refuses a template that makes no claims.
func checkTemplate(typeName string, config json.RawMessage) error {
	if typeName != jwtType {
		return nil
	}
	c, err := jwt.ReadConfig(config)
	if err != nil || c.ClaimsTemplate == "" {
		return err
	}
	_, err = identityClaims(c, &logical.Entity{}, nil)
	return err
}

// identityClaims are the claims that the template of c makes of an identity.
func identityClaims(c jwt.Config, entity *logical.Entity, groups []*logical.Group) (map[string]any, error) {
	_, text, err := identitytpl.PopulateString(identitytpl.PopulateStringInput{
		Mode: identitytpl.JSONTemplating, String: c.ClaimsTemplate, Entity: entity, Groups: groups,
	})
	if err != nil {
		return nil, rotation.Invalid("claims_template", "can't be filled in: %v", err)
	}
	claims, err := jwt.DecodeClaims("claims_template", text)
	if err != nil {
		return nil, err
	}
	return claims, c.CheckIdentity(claims)
}

// callerClaims are the claims that the template of c makes of the caller's identity.
func (b *backend) callerClaims(req *logical.Request, c jwt.Config) (map[string]any, error) {
	if c.ClaimsTemplate == "" {
		return nil, nil
	}
	entity, err := b.entity(req)
	if err != nil {
		return nil, err
	}
	if entity == nil {
		return nil, rotation.Invalid("claims_template", "needs an identity, and your token has none: log in by an auth method that gives one (root tokens and those made from them have none)")
	}
	groups, err := b.System().GroupsForEntity(req.EntityID)
	if err != nil {
		return nil, fmt.Errorf("read groups of the caller: %w", err)
	}
	return identityClaims(c, entity, groups)
}

// entity is the identity of who makes a request, nil if it has none.
func (b *backend) entity(req *logical.Request) (*logical.Entity, error) {
	if req.EntityID == "" {
		return nil, nil
	}
	entity, err := b.System().EntityInfo(req.EntityID)
	if err != nil {
		return nil, fmt.Errorf("read identity of the caller: %w", err)
	}
	return entity, nil
}

const jwtSignHelp = `
Makes a token from the claims, and signs it with the current key of a secret of type
jwt. The engine sets exp (from ttl), iat, nbf and jti, and also iss and aud if the
secret has issuer and audience. It refuses claims that the secret does not allow. Names
that some libraries treat as equal, such as Sub and sub, count as one. A token is valid
for at most max_ttl, and never longer than the role's overlap. So its key verifies it
until it expires, even after a rotation. There are three exceptions: a second manual
rotation within the overlap, whose response has a warning; revoke_previous; and retire.`

func (b *backend) pathJWTVerify() *framework.Path {
	fields := keyNames()
	fields["token"] = sensitive("The token to verify.")
	return &framework.Path{
		Pattern:      keyPath("jwt", "/verify"),
		DisplayAttrs: attributes("verify", "token"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			// It changes nothing, so any node may serve it; see used.
			logical.UpdateOperation: operation(b.pathJWTVerifyWrite, "Verify a token with the current key, or the previous one during its overlap.", map[string]*framework.FieldSchema{
				"valid":  field(framework.TypeBool, "Whether the token is valid."),
				"claims": field(framework.TypeMap, "Claims of the token, if it is valid; null otherwise."),
				"stage":  field(framework.TypeString, "Which key signed the token: current or previous; empty if neither of the two did."),
				"kid":    field(framework.TypeString, "Id of the key that signed the token; empty if neither the current nor the previous key did."),
				"error":  field(framework.TypeString, "Why the token is not valid; empty if it is."),
				"reason": retiredField("the token names a retired key of this secret, which does not prove that this key signed it"),
			}),
		},
		HelpSynopsis:    "Verify a JSON Web Token.",
		HelpDescription: oneLine(jwtVerifyHelp),
	}
}

// pathJWTVerifyWrite corresponds to UPDATE on jwt/:role/:secret/verify.
func (b *backend) pathJWTVerifyWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	found, err := b.findSecret(ctx, d, jwtType)
	if err != nil {
		return nil, err
	}
	ring, err := jwt.KeyringOf(found.snapshot, found.secret)
	if err != nil {
		return nil, err
	}
	token := d.Get("token").(string)
	if token == "" {
		return nil, rotation.Invalid("token", "is missing")
	}
	verified := ring.Verify(token, b.now())
	if verified.Valid() {
		if err := b.used(found, verified.Stage); err != nil {
			return nil, err
		}
	}
	resp := verifiedResponse(verified)
	if verified.Named == "" {
		return resp, nil
	}
	resp.Data["reason"], err = b.reason(ctx, req, found, tripwire.Presented{KeyID: verified.Named})
	return resp, err
}

// verifiedResponse is the answer about a token. What is wrong with one is no error
// of the request.
func verifiedResponse(v jwt.Verified) *logical.Response {
	var claims any
	if v.Valid() {
		claims = v.Claims
	}
	return &logical.Response{Data: map[string]any{
		"valid": v.Valid(), "claims": claims, "stage": v.Stage, "kid": v.KID, "error": v.Refusal, "reason": "",
	}}
}

const jwtVerifyHelp = `
Verifies a token. The secret's current key must have signed it, or the previous one
during its overlap, with the algorithm of that key. The token must have exp, must not
have expired, and must not begin in the future; clocks may differ by 60 seconds. If the
secret has issuer or audience, iss or aud must match. The token must not contain the
same claim twice, or two claims whose names some libraries treat as equal, such as Sub
and sub. For a token that is not valid, valid is false and error has the reason, without
any part of the token; the response is not an error. If the token names a retired key,
reason is retired, and the engine sends the event retired_value_used, at most once an
hour for each role. The signature can't be verified then, because the engine has destroyed
the key.`
