package acceptance

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// before is the last commit before the packages of the backend were taken apart.
const before = "9408c68e89ca14d7287d7c978205521ac78791b8"

// TestUpgradeInRotation moves a mount to another version of the plugin while a
// rotation waits for PostgreSQL: by the calls of Vault's API, by the script that is
// shipped, and from an earlier commit. The new version ends what the old one began.
func TestUpgradeInRotation(t *testing.T) {
	t.Parallel()
	const from, to = "v0.1.0", "v0.2.0"
	for how, c := range map[string]struct {
		commit  string
		upgrade func(e *engine, binary, version string, before func())
	}{"api": {"", (*engine).upgrade}, "configure.sh": {"", (*engine).configure}, "earlier commit": {before, (*engine).upgrade}} {
		for _, strategy := range []string{"single_user", "alternating_users"} {
			t.Run(how+" "+strategy, func(t *testing.T) {
				t.Parallel()
				e, next := newVersioned(t, c.commit, from), versioned(t, "", to)
				e.prefix = "upgrade" + strategy[:3]
				e.orders(strategy, map[string]any{"rotation_period": "1h"})
				e.write("rotate", nil)
				before, history := e.creds(), e.history()
				c.upgrade(e, next, to, func() { e.hang() })
				if during := e.creds(); during["db_password"] != before["db_password"] {
					t.Error("the new version hands out what is not committed")
				}
				if err := e.postgres.Continue(); err != nil {
					t.Fatal(err)
				}
				e.recoveredAs(before, to)
				if kept := e.history()[:len(history)]; !reflect.DeepEqual(kept, history) {
					t.Errorf("the history was %v, and is %v", history, kept)
				}
			})
		}
	}
}

// versioned builds the plugin of a commit, or of the working tree, as that version.
func versioned(t *testing.T, commit, version string) string {
	t.Helper()
	binary, err := testenv.BuildPlugin(t.Context(), testenv.BuildOptions{Race: true, Version: version, Commit: commit})
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// newVersioned is newOwnEngine with that version registered.
func newVersioned(t *testing.T, commit, version string) *engine {
	t.Helper()
	v := testenv.NewVault(t, testenv.VaultOptions{})
	if err := v.RegisterPlugin(t.Context(), versioned(t, commit, version), version); err != nil {
		t.Fatal(err)
	}
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: talkative})
	inspectAfter(t, v, pg)
	e := mount(t, v, pg)
	e.runs(version)
	return e
}

// upgrade moves the mount to another version by the calls of Vault's API, the last of
// which has the new version take over: before that it calls before.
func (e *engine) upgrade(binary, version string, before func()) {
	e.Helper()
	if err := e.vault.RegisterPlugin(e.Context(), binary, version); err != nil {
		e.Fatal(err)
	}
	call := func(path string, data map[string]any) {
		e.Helper()
		if _, err := e.client.Logical().WriteWithContext(e.Context(), path, data); err != nil {
			e.Fatal(err)
		}
	}
	call("sys/mounts/"+e.path+"/tune", map[string]any{"plugin_version": version})
	before()
	call("sys/plugins/reload/backend", map[string]any{"mounts": e.path + "/"})
}

// waitingVault is a vault command that waits with the call that has a new version take
// over, until it may go on.
const waitingVault = `#!/bin/sh
case "$*" in *sys/plugins/reload*)
	touch "$DIR/reached"
	until [ -e "$DIR/go" ]; do sleep 0.05; done
esac
exec "$VAULT" "$@"
`

// configure does the same by the script that is shipped.
func (e *engine) configure(binary, version string, before func()) {
	e.Helper()
	root, err := testenv.Root()
	if err != nil {
		e.Fatal(err)
	}
	dir := e.TempDir()
	e.check(testenv.WriteProgram(filepath.Join(dir, "vault"), []byte(waitingVault), 0o700))
	shell := &terminal{T: e.T, dir: root, env: append(os.Environ(),
		"PATH="+dir+":"+os.Getenv("PATH"), "DIR="+dir, "VAULT="+e.vault.Binary,
		"VAULT_ADDR="+e.vault.Address, "VAULT_TOKEN="+e.vault.RootToken)}
	go func() {
		for e.Context().Err() == nil {
			if _, err := os.Stat(filepath.Join(dir, "reached")); err == nil {
				before()
				e.check(os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	out := shell.run("bootstrap/install/configure.sh -path " + e.path + " -version " + version + " " + binary)
	for _, words := range []string{"is set to " + version + ", it was", "reloaded", "runs " + testenv.PluginName + " " + version} {
		if !strings.Contains(out, words) {
			e.Errorf("configure.sh did not say %q:\n%s", words, out)
		}
	}
}

// runs fails the test unless the mount runs that version.
func (e *engine) runs(version string) {
	e.Helper()
	resp, err := e.client.Logical().ReadWithContext(e.Context(), "sys/mounts/"+e.path)
	if err != nil {
		e.Fatal(err)
	}
	if got := resp.Data["running_plugin_version"]; got != version {
		e.Errorf("the mount runs %v, want %s", got, version)
	}
}

// recoveredAs waits for the end of what was interrupted, and checks that it and
// what follows are whole.
func (e *engine) recoveredAs(before map[string]any, version string) {
	e.Helper()
	e.settled(2 * time.Minute)
	e.runs(version)
	after := e.creds()
	e.works(after)
	checkJWT(e.T, after)
	if grown := number(e.T, after, "version") - number(e.T, before, "version"); grown != 0 && grown != 1 {
		e.Errorf("the version grew by %d", grown)
	}
	records := e.history()
	if last := records[len(records)-1]; last["trigger"] != "recovery" {
		e.Errorf("the last record is %v", last)
	}
	if answer := e.write("rotate", nil); answer["version"] == nil {
		e.Errorf("the next rotation answered %v", answer)
	}
	e.works(e.creds())
	if report := e.read("verify"); report["valid"] != true {
		e.Errorf("verify reports %v", report)
	}
	e.history()
}
