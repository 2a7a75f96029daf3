package testenv

import (
	"testing"
)

// NewPostgres is StartPostgres for a test: it fails the test if that fails,
// and stops the server when the test and its subtests are done.
func NewPostgres(t testing.TB, opts PostgresOptions) *Postgres {
	t.Helper()
	pg, err := StartPostgres(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, pg.LogPath, pg.Stop)
	return pg
}

// NewVault is StartVault for a test: it fails the test if that fails, and
// stops the server when the test and its subtests are done.
func NewVault(t testing.TB, opts VaultOptions) *Vault {
	t.Helper()
	v, err := StartVault(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, v.LogPath, v.Stop)
	return v
}

// NewPlugin is BuildPlugin for a test, with the race detector on.
func NewPlugin(t testing.TB) string {
	t.Helper()
	binary, err := BuildPlugin(t.Context(), BuildOptions{Race: true})
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// stopAfter stops a server when the test is done. A failed test shows the end
// of its log, which is gone afterwards.
func stopAfter(t testing.TB, logPath string, stop func() error) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of %s:\n%s", logPath, tail(logPath, 4000))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
