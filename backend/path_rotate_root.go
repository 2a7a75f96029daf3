package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/connections"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

func (b *backend) pathRotateRoot() *framework.Path {
	fields := operationFields()
	for _, name := range []string{"role", "secrets", "revoke_previous"} {
		delete(fields, name)
	}
	fields["name"] = nameField("Name of the connection.")
	return &framework.Path{
		Pattern:      "rotate-root/" + framework.GenericNameRegex("name"),
		DisplayAttrs: attributes("rotate", "root-credentials"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: mutation(b.pathRotateRootWrite, "Give a connection's administrator a new password.", operationAnswer("connection")),
		},
		HelpSynopsis:    "Rotate the password of a connection's administrator.",
		HelpDescription: oneLine(rotateRootHelp),
	}
}

// pathRotateRootWrite corresponds to UPDATE on rotate-root/:name.
func (b *backend) pathRotateRootWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	wait, err := takeWait(d)
	if err != nil {
		return nil, err
	}
	r, err := b.connections.Find(ctx, d.Get("name").(string))
	if err != nil {
		return nil, err
	}
	if err := b.connections.CheckAdmin(ctx, *r.Snapshot().Secrets[connections.Admin]); err != nil {
		return nil, err
	}
	request := b.newRequest(req, rotation.KindRotate)
	if request.Reason, err = takeReason(d); err != nil {
		return nil, err
	}
	request.RevokePrevious = true
	return b.perform(ctx, r, *request, wait)
}

const rotateRootHelp = `
Gives the administrator of a connection a new password that only the engine
knows, by the same transaction as every rotation: it is stored before it is set,
proven by a login before it is used, and recovered by probing after a crash. The
old password is proven to be refused. Afterwards nobody but the engine can log in
as this user.`
