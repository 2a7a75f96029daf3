// Package pgtest is what tests of all that talks to PostgreSQL share: servers, and an
// administrator who reaches them as the engine does.
package pgtest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// Shared is the server that most tests use, each with roles of its own.
var Shared *testenv.Postgres

// AllMethods are the options of a server that offers TLS, and has users who log in by
// each method.
var AllMethods = testenv.PostgresOptions{
	TLS: true,
	HBA: []string{
		"host all md5_user 127.0.0.1/32 md5",
		"host all cleartext_user 127.0.0.1/32 password",
		"host all trusted_user 127.0.0.1/32 trust",
	},
}

// Main runs the tests of a package with Shared, and ends the process.
func Main(m *testing.M, options testenv.PostgresOptions) { os.Exit(run(m, options)) }

func run(m *testing.M, options testenv.PostgresOptions) int {
	var err error
	Shared, err = testenv.StartPostgres(context.Background(), testenv.Unsynced(options))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		for _, pg := range append(slices.Collect(maps.Values(majors.started)), Shared) {
			if err := pg.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	return m.Run()
}

// majors are servers by their version, started when a test first asks for one.
var majors = struct {
	sync.Mutex
	started map[int]*testenv.Postgres
}{started: map[int]*testenv.Postgres{}}

// OfMajor is a server that tests share, which leave it as it is but for roles and
// databases of their own.
func OfMajor(t testing.TB, major int) *testenv.Postgres {
	t.Helper()
	majors.Lock()
	defer majors.Unlock()
	if majors.started[major] == nil {
		pg, err := testenv.StartPostgres(t.Context(), testenv.Unsynced(testenv.PostgresOptions{Major: major}))
		expect.OK(t, err)
		majors.started[major] = pg
	}
	return majors.started[major]
}

var counter atomic.Int64

// Unique returns a name that no other test uses.
func Unique(name string) string { return fmt.Sprintf("%s_%d", name, counter.Add(1)) }
