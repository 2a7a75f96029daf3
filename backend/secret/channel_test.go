package secret

import (
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestProxyThatEndsTLS goes through a proxy that ends TLS and begins it again: the
// engine says so, whatever language the server speaks, does not call it a refusal, and
// goes through it only where the connection says that it may, as applications then do.
func TestProxyThatEndsTLS(t *testing.T) {
	b := newBench(t, shared)
	port, ca := testenv.NewTLSProxy(t, shared)
	through := func(c *ConnectionConfig) { c.Port, c.SSLMode, c.TLSCA = port, "verify-full", ca }
	through(&b.connection.Config.ConnectionConfig)
	d, s := b.database(DatabaseConfig{Usernames: []string{b.user(unique("app"))}})
	v, err := d.Create(t.Context(), s)
	must(t, err)
	for _, err := range []error{
		b.server(through).try(t.Context(), b.admin),
		b.postgres.look(t.Context(), "main", nothing),
		d.Set(t.Context(), s, v, unfenced),
	} {
		if err == nil || loginRefused(err) || !strings.Contains(err.Error(), "channel_binding=disable") || strings.Contains(err.Error(), "changed by hand") {
			t.Errorf("got %v, want the cause and the way out", err)
		}
		wantSecretFree(t, err.Error(), v, rotation.Material{"password": b.admin.Password})
	}

	b.connection.Config.ChannelBinding = BindingDisabled
	must(t, b.connection.Config.Validate())
	must(t, d.Set(t.Context(), s, v, unfenced))
	s.Current = b.value(v)
	if _, err := d.Verify(t.Context(), s); err != nil {
		t.Error(err)
	}
	fields, err := d.Fields(s, v)
	must(t, err)
	if !strings.Contains(fields["connection_string"], "channel_binding=disable") {
		t.Errorf("an application could not go through the proxy with %q", strings.ReplaceAll(fields["connection_string"], encode(v["password"]), "…"))
	}
	b.connection.Config.ApplicationHost = "elsewhere"
	if way, err := b.connection.Config.Way(); err != nil || len(way.Parameters) > 0 {
		t.Errorf("got %v and %v, want no parameters for another way", way.Parameters, err)
	}
	b.connection.Config.ChannelBinding = "never"
	wantInvalid(t, b.connection.Config.Validate(), "channel_binding", BindingPreferred, BindingDisabled)
}
