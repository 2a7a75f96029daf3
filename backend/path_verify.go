package backend

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// verifyTimeout bounds how long a request asks targets.
const verifyTimeout = 20 * time.Second

func (b *backend) pathVerify() *framework.Path {
	return &framework.Path{
		Pattern:      optionalRole("verify"),
		DisplayAttrs: attributes("verify", "default-role|role"),
		Fields:       map[string]*framework.FieldSchema{"role": field(framework.TypeString, "Name of the role; default if the path ends before it.")},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: operation(b.pathVerifyRead, "Use every current value for real, and report.", verifyFields()),
		},
		HelpSynopsis:    "Prove that the values of a role work, and that retired ones do not.",
		HelpDescription: oneLine(verifyHelp),
	}
}

func verifyFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"role":    field(framework.TypeString, "Name of the role."),
		"version": field(framework.TypeInt, "Version that was verified."),
		"valid":   field(framework.TypeBool, "Whether everything is as it should be."),
		"secrets": field(framework.TypeMap, "For each secret, valid, what was proven, and the error if there is one."),
	}
}

// pathVerifyRead corresponds to READ on verify and verify/:role.
func (b *backend) pathVerifyRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.findRole(ctx, roleName(d))
	if err != nil {
		return nil, err
	}
	s := r.Snapshot()
	names, err := s.Selected(r.Name, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	results := make([]map[string]any, len(names))
	var asked sync.WaitGroup
	for i, name := range names {
		asked.Go(func() { results[i] = b.verifySecret(ctx, *s.Secrets[name]) })
	}
	asked.Wait()
	valid, secrets := true, map[string]any{}
	for i, name := range names {
		valid = valid && results[i]["valid"].(bool)
		secrets[name] = results[i]
	}
	return &logical.Response{Data: map[string]any{
		"role": r.Name, "version": s.Version, "valid": valid, "secrets": secrets,
	}}, nil
}

func (b *backend) verifySecret(ctx context.Context, s rotation.Secret) map[string]any {
	proofs, err := b.types[s.Type].Verify(ctx, s)
	result := map[string]any{"valid": err == nil, "proven": proofs}
	if err != nil {
		result["error"] = err.Error()
	}
	return result
}

const verifyHelp = `
Logs in with every current database password, signs and verifies with every key,
and proves that values that must be refused are refused. It changes nothing.`
