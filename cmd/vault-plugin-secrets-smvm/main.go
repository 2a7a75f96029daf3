// Command vault-plugin-secrets-smvm is the plugin that Vault starts. It serves
// the engine of package backend to one Vault process and ends with it.
package main

import (
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/plugin"

	"github.com/smvm/vault-plugin-secrets-smvm/backend"
)

func main() {
	meta := &api.PluginAPIClientMeta{}
	if err := meta.FlagSet().Parse(os.Args[1:]); err != nil {
		fail(err)
	}
	if err := plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: backend.Factory,
		TLSProviderFunc:    api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	}); err != nil {
		fail(err)
	}
}

// fail reports on standard error, which Vault reads as the plugin's log.
func fail(err error) {
	hclog.New(&hclog.LoggerOptions{JSONFormat: true}).Error("plugin ends", "error", err)
	os.Exit(1)
}
