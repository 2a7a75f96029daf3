// Package acceptance drives the built plugin in a real Vault with a real
// PostgreSQL, as operators and applications do, through the API client and
// through the vault command line.
package acceptance

import (
	"context"
	"fmt"
	"os"
	"os/signal"
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

// talkative makes PostgreSQL log the statement of whatever it has to say.
var talkative = map[string]string{"log_min_error_statement": "debug5"}

func start(ctx context.Context) (err error) {
	if shared.plugin, err = testenv.BuildPlugin(ctx, testenv.BuildOptions{Race: true}); err != nil {
		return err
	}
	if shared.postgres, err = testenv.StartPostgres(ctx, testenv.Unsynced(testenv.PostgresOptions{TLS: true, Settings: talkative})); err != nil {
		return err
	}
	if shared.vault, err = testenv.StartVault(ctx, testenv.VaultOptions{}); err != nil {
		return err
	}
	rememberServers(shared.vault, shared.postgres)
	return shared.vault.RegisterPlugin(ctx, shared.plugin, "")
}

// searchLogs looks for every secret in the logs of Vault, of the plugin (which
// is in Vault's), of the audit device, of PostgreSQL with every statement, and in
// every answer but those of creds. Tests with servers of their own did the same.
func searchLogs() int {
	wrong := inspect(shared.vault, shared.postgres)
	wrong = append(wrong, newScanner().report("the answers", answers.text.Bytes())...)
	for _, w := range wrong {
		fmt.Fprintln(os.Stderr, w)
	}
	fmt.Printf("searched %d bytes of logs, arguments and environments of %d pairs of servers, and %d bytes of answers, for %d secret values: %d hits\n",
		scanned.bytes, scanned.servers, answers.text.Len(), len(seen.values), len(wrong))
	if len(wrong) > 0 || len(seen.values) == 0 {
		return 1
	}
	return 0
}
