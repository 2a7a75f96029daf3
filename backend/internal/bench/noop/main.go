// Command noop is a plugin that does nothing, to measure what any plugin costs:
// reads of its path framework go through the SDK's framework, reads of its path
// direct are answered before it.
package main

import (
	"context"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
)

func main() {
	meta := &api.PluginAPIClientMeta{}
	err := meta.FlagSet().Parse(os.Args[1:])
	if err == nil {
		err = plugin.ServeMultiplex(&plugin.ServeOpts{
			BackendFactoryFunc: factory,
			TLSProviderFunc:    api.VaultPluginTLSProvider(meta.GetTLSConfig()),
		})
	}
	if err != nil {
		hclog.New(&hclog.LoggerOptions{JSONFormat: true}).Error("plugin ends", "error", err)
		os.Exit(1)
	}
}

// backend answers the path direct by itself.
type backend struct{ *framework.Backend }

func factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	b := &backend{&framework.Backend{
		BackendType: logical.TypeLogical,
		Paths: []*framework.Path{{
			Pattern: "framework",
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation:   &framework.PathOperation{Callback: answer},
				logical.UpdateOperation: &framework.PathOperation{Callback: answer},
			},
		}},
	}}
	return b, b.Setup(ctx, conf)
}

// HandleRequest implements logical.Backend.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	if req.Path == "direct" && req.Operation != logical.HelpOperation {
		return answer(ctx, req, nil)
	}
	return b.Backend.HandleRequest(ctx, req)
}

func answer(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
	return &logical.Response{Data: map[string]any{"value": "nothing"}}, nil
}
