package backend

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
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
	fields["claims"] = field(framework.TypeMap, "The claims of the token, as a JSON object. exp, iat, nbf and jti are set by the engine.")
	fields["ttl"] = field(framework.TypeDurationSecond, "How long the token is to live; as long as it may by default.")
	return &framework.Path{
		Pattern:      keyPath("jwt", "/sign"),
		DisplayAttrs: attributes("sign", "token"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			// It changes nothing, so any node may serve it.
			logical.UpdateOperation: operation(b.pathJWTSignWrite, "Make a token of claims, signed with the current key.", map[string]*framework.FieldSchema{
				"token":   sensitive("The token."),
				"kid":     field(framework.TypeString, "Name of the key that has signed it."),
				"expires": field(framework.TypeString, "When it expires (RFC 3339, UTC)."),
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
	ring, err := keyring(found.snapshot, found.secret)
	if err != nil {
		return nil, err
	}
	identity, err := b.callerClaims(req, ring.Config())
	if err != nil {
		return nil, err
	}
	claims, expires, err := ring.Config().Claims(secret.TokenRequest{
		Claims: d.Get("claims").(map[string]any), TTL: time.Duration(d.Get("ttl").(int)) * time.Second,
		Identity: identity, Overlap: found.snapshot.Terms.Overlap, Now: b.now(),
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

const jwtSignHelp = `
Makes a token of the claims, signed with the current key of a secret of type jwt.
The engine sets exp from ttl, iat, nbf and jti, and iss and aud where the secret
says what they are; a claim that may not be named is refused, under every name
that libraries take for it, in another case for example. A token lives for at
most max_ttl, and never longer than the overlap of the role: so its key verifies
it until it expires, whatever rotates meanwhile. Rotating twice within one overlap
ends that early, and the answer of the rotation warns of it; so does
revoke_previous, which is what it is for.`
