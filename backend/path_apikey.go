package backend

import (
	"cmp"
	"context"
	"errors"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/apikey"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/tripwire"
)

func (b *backend) pathAPIKeyVerify() *framework.Path {
	return &framework.Path{
		Pattern:      "api-key/" + framework.GenericNameRegex("role") + "/" + framework.GenericNameRegex("name") + "/verify",
		DisplayAttrs: attributes("verify", "api-key"),
		Fields: map[string]*framework.FieldSchema{
			"role": nameField("Name of the role."),
			"name": nameField("Name of the secret within the role. It must be of type api_key."),
			"key":  sensitive("The key to verify."),
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			// It changes nothing, so any node may serve it; see used.
			logical.UpdateOperation: operation(b.pathAPIKeyVerifyWrite, "Verify an API key: find out whether it is valid now.", map[string]*framework.FieldSchema{
				"valid":   field(framework.TypeBool, "Whether the key is the current one, or the previous one during its overlap."),
				"stage":   field(framework.TypeString, "Stage of the key: current or previous; empty if the key is not valid."),
				"version": field(framework.TypeInt, "Version of the role at which this key became current; 0 if the key is not valid."),
				"error":   field(framework.TypeString, "Why the key is not valid; empty if it is."),
				"reason":  retiredField("the key is a retired one of this secret"),
			}),
		},
		HelpSynopsis:    "Find out whether an API key is valid.",
		HelpDescription: oneLine(apiKeyVerifyHelp),
	}
}

// pathAPIKeyVerifyWrite corresponds to UPDATE on api-key/:role/:secret/verify. A
// key that is not valid is an answer, not an error.
func (b *backend) pathAPIKeyVerifyWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	key := d.Get("key").(string)
	if key == "" {
		return nil, rotation.Invalid("key", "is missing; give the key to verify")
	}
	found, err := b.findSecret(ctx, d, apiKeyType)
	if err != nil {
		return nil, err
	}
	value, err := apikey.Match(*found.secret, key, b.now())
	if err != nil {
		reason, readOnly := b.reason(ctx, req, found, tripwire.Presented{Text: key})
		return &logical.Response{Data: map[string]any{"valid": false, "stage": "", "version": 0, "error": err.Error(), "reason": reason}}, readOnly
	}
	stage := stageOf(found.secret, value)
	if err := b.used(found, stage); err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{"valid": true, "stage": stage, "version": value.Version, "error": "", "reason": ""}}, nil
}

// reasonRetired is the reason why a value is not valid that was retired.
const reasonRetired = "retired"

// retiredField declares the reason of an answer about a value that is not valid.
func retiredField(when string) *framework.FieldSchema {
	return field(framework.TypeString, reasonRetired+" if "+when+". Empty otherwise, and once tripwire_retention of config has passed since the retirement.")
}

// reason is reasonRetired for a value that is not valid if it is a retired one, whose use is
// then noted. The error has Vault repeat the request on the node that can note it.
func (b *backend) reason(ctx context.Context, req *logical.Request, of found, p tripwire.Presented) (string, error) {
	p.Secret, p.Type, p.Actor = of.secret.Name, of.secret.Type, actor(req)
	if req.Connection != nil {
		p.Address = req.Connection.RemoteAddr
	}
	retired, err := b.tripwire.Recognize(ctx, of.role, p)
	switch {
	case errors.Is(err, tripwire.ErrReadOnly):
		return "", logical.ErrReadOnly
	case !retired:
		return "", nil
	}
	b.metrics.RetiredPresented()
	return reasonRetired, nil
}

// used counts a use of the value that a secret has in that stage. The active node has to
// know of each use of a previous value, because it ends the overlap: on another node,
// ErrReadOnly has Vault forward the request.
func (b *backend) used(f found, stage string) error {
	if stage == secret.StagePrevious && b.standby.Load() {
		return logical.ErrReadOnly
	}
	b.usage.Used(f.role, f.secret, stage)
	return nil
}

// found is a secret, and the state and the role that it is of.
type found struct {
	role     *rotation.Role
	snapshot *rotation.Snapshot
	secret   *rotation.Secret
}

// findSecret returns the secret that the request names, as it is now. It must be
// of that type.
func (b *backend) findSecret(ctx context.Context, d *framework.FieldData, typeName string) (found, error) {
	r, err := b.findRole(ctx, d.Get("role").(string))
	if err != nil {
		return found{}, err
	}
	name, snapshot := d.Get("name").(string), r.Snapshot()
	s := snapshot.Secrets[name]
	switch {
	case s == nil:
		return found{}, rotation.Invalid("name", "role %s has no secret %q; it has: %s", r.Name, name, cmp.Or(roles.Sample(snapshot.Names()), "none yet"))
	case s.Type != typeName:
		return found{}, rotation.Invalid("name", "secret %s of role %s is of type %s, not %s", name, r.Name, s.Type, typeName)
	}
	return found{r, snapshot, s}, nil
}

// stageOf names the stage of a value of s.
func stageOf(s *rotation.Secret, v *rotation.Value) string {
	if v == s.Current {
		return secret.StageCurrent
	}
	return secret.StagePrevious
}

const apiKeyVerifyHelp = `
Returns whether a key is valid. Valid are the secret's current key and, during the
overlap, its previous key. For any other key, valid is false and error has the reason; the
response is not an error. If a key begins with the secret's prefix and has a wrong
checksum, error says that it was mistyped. For a retired key, reason is retired, and the
engine sends the event retired_value_used, at most once an hour for each key. The engine
answers from memory; at the first wrong key it reads retired values from storage. The time that
it takes reveals nothing about the valid keys. Keys that the engine makes have 256
random bits, unless you change length. Read status to see when each stage was last used.`
