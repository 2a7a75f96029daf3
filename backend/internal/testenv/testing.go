package testenv

import (
	"maps"
	"strings"
	"testing"
)

// NewPostgres is StartPostgres for a test: it fails the test if that fails,
// and stops the server when the test and its subtests are done. It is Unsynced.
func NewPostgres(t testing.TB, opts PostgresOptions) *Postgres {
	t.Helper()
	pg, err := StartPostgres(t.Context(), Unsynced(opts))
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, pg.Stop, pg.LogPath)
	return pg
}

// Unsynced has the server leave it to the kernel when what it writes gets to the disk.
// Nothing is lost by that when a server is killed, but only when the machine is.
func Unsynced(opts PostgresOptions) PostgresOptions {
	settings := map[string]string{"fsync": "off"}
	maps.Copy(settings, opts.Settings)
	opts.Settings = settings
	return opts
}

// NewVault is StartVault for a test: it fails the test if that fails, and
// stops the server when the test and its subtests are done.
func NewVault(t testing.TB, opts VaultOptions) *Vault {
	t.Helper()
	v, err := StartVault(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, v.Stop, v.LogPath)
	return v
}

// NewCluster is StartCluster for a test: it fails the test if that fails, and
// stops the servers when the test and its subtests are done.
func NewCluster(t testing.TB, opts ClusterOptions) *Cluster {
	t.Helper()
	c, err := StartCluster(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	var logs []string
	for _, v := range c.Nodes {
		logs = append(logs, v.LogPath)
	}
	stopAfter(t, c.Stop, logs...)
	return c
}

// NewProxy is StartProxy for a test: it fails the test if that fails, and
// stops the proxy when the test and its subtests are done.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := StartProxy(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, p.Stop)
	return p
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
// of its logs, which are gone afterwards, and one with a data race fails: the
// plugin's race detector has only Vault's log to report to.
func stopAfter(t testing.TB, stop func() error, logPaths ...string) {
	t.Cleanup(func() {
		for _, path := range logPaths {
			if race := findRace(path); race != "" {
				t.Errorf("a data race, from %s:\n%s", path, race)
			}
			if t.Failed() {
				t.Logf("the end of %s:\n%s", path, tail(path, 4000))
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// findRace returns the first report of the race detector in a log; "" if there
// is none.
func findRace(path string) string {
	log := tail(path, 1<<30)
	at := strings.Index(log, "WARNING: DATA RACE")
	if at < 0 {
		return ""
	}
	return log[at:min(len(log), at+4000)]
}
