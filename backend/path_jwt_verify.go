package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

func (b *backend) pathJWTVerify() *framework.Path {
	fields := keyNames()
	fields["token"] = sensitive("The token.")
	return &framework.Path{
		Pattern:      keyPath("jwt", "/verify"),
		DisplayAttrs: attributes("verify", "token"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			// It changes nothing, so any node may serve it.
			logical.UpdateOperation: operation(b.pathJWTVerifyWrite, "Verify a token against the current key and the previous one in its overlap.", map[string]*framework.FieldSchema{
				"valid":  field(framework.TypeBool, "Whether to accept the token."),
				"claims": field(framework.TypeMap, "The claims of a valid token; null otherwise."),
				"stage":  field(framework.TypeString, "Which key has signed it: current or previous; empty if none has."),
				"kid":    field(framework.TypeString, "Name of that key."),
				"error":  field(framework.TypeString, "Why the token is not valid; empty if it is."),
			}),
		},
		HelpSynopsis:    "Verify a JSON Web Token.",
		HelpDescription: oneLine(jwtVerifyHelp),
	}
}

// pathJWTVerifyWrite corresponds to UPDATE on jwt/:role/:secret/verify.
func (b *backend) pathJWTVerifyWrite(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	found, err := b.findSecret(ctx, d, jwtType)
	if err != nil {
		return nil, err
	}
	ring, err := keyring(found.snapshot, found.secret)
	if err != nil {
		return nil, err
	}
	token := d.Get("token").(string)
	if token == "" {
		return nil, rotation.Invalid("token", "is missing")
	}
	verified := ring.Verify(token, b.now())
	if verified.Valid() {
		b.usage.Used(found.role, found.secret, verified.Stage)
	}
	return verifiedResponse(verified), nil
}

// verifiedResponse is the answer about a token. What is wrong with one is no error
// of the request.
func verifiedResponse(v secret.Verified) *logical.Response {
	var claims any
	if v.Valid() {
		claims = v.Claims
	}
	return &logical.Response{Data: map[string]any{
		"valid": v.Valid(), "claims": claims, "stage": v.Stage, "kid": v.KID, "error": v.Refusal,
	}}
}

const jwtVerifyHelp = `
Verifies a token: that its signature is one of the current key, or of the previous
one during its overlap, by the algorithm of that key and no other; that it has exp
and has not expired, nor begins in the future, with 60 seconds of leeway; and that
iss and aud are as the secret says, where it does; and that no claim can be taken
for another one, as names in another case are, or stands in it twice. A token that is not valid is
answered with valid=false and the reason, which shows nothing of the token.`
