// Package acceptance drives the built plugin in a real Vault with a real
// PostgreSQL, as operators and applications do, through the API client and
// through the vault command line.
package acceptance

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// The servers that all tests share, but for those that break them.
var shared struct {
	vault    *testenv.Vault
	postgres *testenv.Postgres
	plugin   string
}

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, m))
}

// run starts the servers, runs the tests, and then searches everything that the
// servers logged for every secret that the tests have seen.
func run(ctx context.Context, m *testing.M) (code int) {
	defer func() {
		if err := shared.vault.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if err := shared.postgres.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	if err := start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if code = m.Run(); code != 0 {
		return code
	}
	return searchLogs()
}

func start(ctx context.Context) (err error) {
	if shared.plugin, err = testenv.BuildPlugin(ctx, testenv.BuildOptions{Race: true}); err != nil {
		return err
	}
	if shared.postgres, err = testenv.StartPostgres(ctx, testenv.PostgresOptions{TLS: true}); err != nil {
		return err
	}
	if shared.vault, err = testenv.StartVault(ctx, testenv.VaultOptions{}); err != nil {
		return err
	}
	return shared.vault.RegisterPlugin(ctx, shared.plugin, "")
}

// seen holds every secret value that any test has read or made.
var seen = struct {
	sync.Mutex
	values map[string]bool
}{values: map[string]bool{}}

func remember(value string) {
	seen.Lock()
	defer seen.Unlock()
	if len(value) >= 8 {
		seen.values[value] = true
	}
}

// searchLogs looks for every secret in the logs of Vault, of the plugin (which
// is in Vault's), of the audit device, and of PostgreSQL with every statement.
func searchLogs() int {
	hits, searched := 0, 0
	for _, path := range []string{shared.vault.LogPath, shared.vault.AuditLogPath, shared.postgres.LogPath} {
		text, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		searched += len(text)
		hits += occurrences(text, path)
	}
	fmt.Printf("searched %d bytes of logs for %d secret values: %d hits\n", searched, len(seen.values), hits)
	if hits > 0 || len(seen.values) == 0 {
		return 1
	}
	return 0
}
