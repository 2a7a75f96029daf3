package database

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/conformance"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

// TestUnreachable checks that an error names host and port, comes within the
// connect timeout, and is no refusal.
func TestUnreachable(t *testing.T) {
	var lc net.ListenConfig
	silent, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts and says nothing
	expect.OK(t, err)
	defer func() { _ = silent.Close() }()
	closed, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	expect.OK(t, err)
	expect.OK(t, closed.Close())
	for name, address := range map[string]net.Addr{"silent": silent.Addr(), "closed": closed.Addr()} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, pgtest.Shared)
			b.Connection.Settings.Port = address.(*net.TCPAddr).Port
			b.Connection.Settings.ConnectTimeout = time.Second
			d, s := b.database(Config{Usernames: []string{"app"}})
			v := postgres.Material("app", "hunter2hunter2")
			for what, call := range map[string]func() error{
				"set":  func() error { return d.Set(t.Context(), s, v, conformance.Unfenced) },
				"test": func() error { return d.Test(t.Context(), s, v) },
			} {
				var took time.Duration
				for range 3 { // it may be held up on a busy machine
					began := time.Now()
					err = call()
					if took = time.Since(began); took <= 3*time.Second {
						break
					}
				}
				if err == nil || postgres.LoginRefused(err) || !strings.Contains(err.Error(), address.String()) || errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v, want an error that names %s", what, err, address)
				}
				if took > 3*time.Second {
					t.Errorf("%s took %s", what, took)
				}
				expect.SecretFree(t, err.Error(), v, postgres.Material("", b.Admin.Password))
			}
		})
	}
}
