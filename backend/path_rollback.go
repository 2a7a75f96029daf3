package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func (b *backend) pathRollback() *framework.Path {
	return &framework.Path{
		Pattern:      optionalRole("rollback"),
		DisplayAttrs: attributes("roll-back", "default-role|role"),
		Fields:       operationFields(),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: mutation(b.pathRollbackWrite, "Go back to the previous values, proven by use, as a new version.", operationAnswer("role")),
		},
		HelpSynopsis:    "Go back to the previous values.",
		HelpDescription: oneLine(rollbackHelp),
	}
}

// pathRollbackWrite corresponds to UPDATE on rollback and rollback/:role.
func (b *backend) pathRollbackWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	request, wait, err := b.takeOperation(req, d, rotation.KindRollback)
	if err != nil {
		return nil, err
	}
	r, err := b.findRole(ctx, roleName(d))
	if err != nil {
		return nil, err
	}
	return b.perform(ctx, r, *request, wait)
}

const rollbackHelp = `
Makes the previous values of the role's secrets, or of those named in secrets,
current again, as one transaction: they are applied and proven by use first. It is
a new version, so that applications notice. What was current becomes previous and
stays valid for the overlap, or with revoke_previous=true is made unusable at
once. Previous values exist until their overlap has ended.`
