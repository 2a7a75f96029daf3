package database

import (
	"net/url"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestProxyThatEndsTLS goes through a proxy that ends TLS and begins it again: the
// engine says so, whatever language the server speaks, does not call it a refusal, and
// goes through it only where the connection says that it may, as applications then do.
func TestProxyThatEndsTLS(t *testing.T) {
	b := newBench(t, pgtest.Shared)
	port, ca := testenv.NewTLSProxy(t, pgtest.Shared)
	through := func(c *postgres.Config) { c.Port, c.SSLMode, c.TLSCA = port, "verify-full", ca }
	through(&b.Connection.Settings.Config)
	d, s := b.database(Config{Usernames: []string{b.User(pgtest.Unique("app"))}})
	v, err := d.Create(t.Context(), s)
	expect.OK(t, err)
	for _, err := range []error{
		b.Server(through).Try(t.Context(), b.Admin),
		b.Postgres.Look(t.Context(), "main", nothing),
		d.Set(t.Context(), s, v, conformance.Unfenced),
	} {
		if err == nil || postgres.LoginRefused(err) || !strings.Contains(err.Error(), "channel_binding=disable") || strings.Contains(err.Error(), "password by hand") {
			t.Errorf("got %v, want the cause and the way out", err)
		}
		expect.SecretFree(t, err.Error(), v, rotation.Material{"password": b.Admin.Password})
	}

	b.Connection.Settings.ChannelBinding = postgres.BindingDisabled
	expect.OK(t, b.Connection.Settings.Validate())
	expect.OK(t, d.Set(t.Context(), s, v, conformance.Unfenced))
	s.Current = b.Value(v)
	if _, err := d.Verify(t.Context(), s); err != nil {
		t.Error(err)
	}
	fields, err := d.Fields(s, v)
	expect.OK(t, err)
	if !strings.Contains(fields["connection_string"], "channel_binding=disable") {
		t.Errorf("an application could not go through the proxy with %q", strings.ReplaceAll(fields["connection_string"], url.QueryEscape(v["password"]), "…"))
	}
	b.Connection.Settings.ApplicationHost = "elsewhere"
	if way, err := b.Connection.Settings.Way(); err != nil || len(way.Parameters) > 0 {
		t.Errorf("got %v and %v, want no parameters for another way", way.Parameters, err)
	}
	b.Connection.Settings.ChannelBinding = "never"
	expect.Invalid(t, b.Connection.Settings.Validate(), "channel_binding", postgres.BindingPreferred, postgres.BindingDisabled)
}
