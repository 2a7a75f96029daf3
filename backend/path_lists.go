package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
)

func (b *backend) pathConnectionList() *framework.Path {
	return &framework.Path{
		Pattern:      "connections/?$",
		DisplayAttrs: attributes("list", "connections"),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: operation(b.pathConnectionListRead, "List the connections.", listFields()),
		},
		HelpSynopsis:    "List the connections.",
		HelpDescription: "Lists the names of the connections, with the rotation of each administrator's password.",
	}
}

// pathConnectionListRead corresponds to LIST on connections.
func (b *backend) pathConnectionListRead(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	return b.listSubjects(ctx, roles.ConnectionPrefix)
}

func (b *backend) pathRoleList() *framework.Path {
	return &framework.Path{
		Pattern:      "roles/?$",
		DisplayAttrs: attributes("list", "roles"),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: operation(b.pathRoleListRead, "List the roles.", listFields()),
		},
		HelpSynopsis:    "List the roles.",
		HelpDescription: "Lists the names of the roles, with version, next rotation and what is wrong, if anything is.",
	}
}

// pathRoleListRead corresponds to LIST on roles.
func (b *backend) pathRoleListRead(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	return b.listSubjects(ctx, roles.Prefix)
}

// listSubjects lists roles or connections. One that can't be read is listed too,
// with the reason, and does not hide the others.
func (b *backend) listSubjects(ctx context.Context, prefix string) (*logical.Response, error) {
	stored, err := (&store{b}).List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var names []string
	info := map[string]any{}
	for _, name := range stored {
		r, err := b.registry.Get(ctx, prefix, name)
		switch {
		case err != nil:
			names = append(names, name)
			info[name] = map[string]any{"error": err.Error()}
		case r != nil && !r.Snapshot().Deleted:
			names = append(names, name)
			info[name] = b.rotationStatus(r)
		}
	}
	return listResponse(names, info), nil
}

func (b *backend) pathSecretList() *framework.Path {
	return &framework.Path{
		Pattern:      "secrets/" + framework.GenericNameRegex("role") + "/?$",
		DisplayAttrs: attributes("list", "secrets"),
		Fields:       map[string]*framework.FieldSchema{"role": nameField("Name of the role.")},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: operation(b.pathSecretListRead, "List the secrets of a role.", listFields()),
		},
		HelpSynopsis:    "List the secrets of a role.",
		HelpDescription: "Lists the names of a role's secrets, with type and version.",
	}
}

// pathSecretListRead corresponds to LIST on secrets/:role.
func (b *backend) pathSecretListRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	r, err := b.findRole(ctx, d.Get("role").(string))
	if err != nil {
		return nil, err
	}
	s := r.Snapshot()
	info := map[string]any{}
	for name, secret := range s.Secrets {
		version := 0
		if secret.Current != nil {
			version = secret.Current.Version
		}
		info[name] = map[string]any{"type": secret.Type, "version": version}
	}
	return listResponse(s.Names(), info), nil
}
