// Command noop is a plugin that does nothing, to measure what any plugin costs:
// reads of its path framework go through the SDK's framework, reads of its paths
// direct and large are answered before it, the latter with as much as an application
// is told of its role. Reads below writes write as often, and as much, as a rotation
// does, and that is all.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

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
	switch {
	case req.Operation == logical.HelpOperation:
	case req.Path == "direct":
		return answer(ctx, req, nil)
	case req.Path == "large":
		return &logical.Response{Data: large}, nil
	case strings.HasPrefix(req.Path, "writes/"):
		if err := write(ctx, req); err != nil {
			return nil, err
		}
		return answer(ctx, req, nil)
	}
	return b.Backend.HandleRequest(ctx, req)
}

// large is as large as what creds answers for a database, a JWT and an API key.
var large = map[string]any{
	"version": 1, "rotation_period": 86400, "ttl": 300,
	"last_vault_rotation": "2026-01-01T00:00:00Z", "next_vault_rotation": "2026-01-02T00:00:00Z",
	"db_username": "read0", "db_password": strings.Repeat("p", 44), "db_host": "127.0.0.1", "db_port": "5432", "db_database": "postgres",
	"db_connection_string": strings.Repeat("c", 110),
	"jwt_algorithm":        "HS256", "jwt_kid": strings.Repeat("k", 16), "jwt_secret": strings.Repeat("s", 88),
	"api_key": strings.Repeat("a", 43),
}

// write writes what a rotation does of a role with one secret: its state, when it is
// intended, fenced and committed, and an entry of its history.
func write(ctx context.Context, req *logical.Request) error {
	for i, size := range []int{2 << 10, 2 << 10, 2 << 10, 700} {
		entry := &logical.StorageEntry{Key: fmt.Sprintf("%s/%d", req.Path, size), Value: bytes.Repeat([]byte{byte('0' + i)}, size)}
		if err := req.Storage.Put(ctx, entry); err != nil {
			return fmt.Errorf("write %d: %w", i, err)
		}
	}
	return nil
}

func answer(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
	return &logical.Response{Data: map[string]any{"value": "nothing"}}, nil
}
