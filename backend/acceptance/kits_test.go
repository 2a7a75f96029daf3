//go:build kits

package acceptance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startKit starts the example of a kit on the default role of the engine.
type startKit func(e *engine, env ...string) *service

// kitService starts an example that takes its settings from the environment.
func (e *engine) kitService(env []string, name string, args ...string) *service {
	e.Helper()
	s := &service{T: e.T, address: freeAddress(e.T)}
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		e.Fatal(err)
	}
	s.Program = launch(e.T, append(env, "PORT="+port), name, args...)
	e.serving(s)
	return s
}

// ownLogin has an example read Vault by a login of its own.
func (e *engine) ownLogin() []string {
	e.Helper()
	roleID, secretID := e.approle()
	return []string{"VAULT_ADDR=" + e.vault.Address, "SMVM_PATH=" + e.path + "/creds/default", "SMVM_ROLE_ID_FILE=" + roleID, "SMVM_SECRET_ID_FILE=" + secretID}
}

// credsFile has an Agent render the file as docs/applications.md says.
func (e *engine) credsFile() []string {
	e.Helper()
	_, block, _ := strings.Cut(page(e.T, "docs/applications.md"), "```hcl\n")
	block, _, found := strings.Cut(block, "```")
	if !found {
		e.Fatal("docs/applications.md does not show the template")
	}
	dir := e.TempDir()
	block = strings.NewReplacer("/var/lib/smvm-api", dir, "smvm/creds", e.path+"/creds").Replace(block)
	e.startAgent("agent", "agent.hcl", "template_config {", block+"\ntemplate_config {")
	file := filepath.Join(dir, "creds.json")
	e.eventually("creds.json", 30*time.Second, func(context.Context) error {
		_, err := os.Stat(file)
		return err
	})
	return []string{"SMVM_CREDS_FILE=" + file}
}

// kitThroughRotations runs two instances through rotations: one reads Vault, the other
// the file of an Agent.
func kitThroughRotations(t *testing.T, start startKit, token map[string]any) {
	t.Helper()
	e := newEngine(t)
	e.served("alternating_users", shortTerms)
	e.write("secrets/default/jwt", token)
	e.throughRotations([]*service{start(e, e.ownLogin()...), start(e, e.credsFile()...)})
}

// kitWithRefusedLogins rotates a login that has no overlap, of a role that nobody reads
// again by itself: the service hears of it by a refused login, and no request fails.
func kitWithRefusedLogins(t *testing.T, start startKit) {
	t.Helper()
	e := newEngine(t)
	e.served("single_user", longTerms)
	s := start(e, e.ownLogin()...)
	requests := e.beginAt(s, 25*time.Millisecond)
	for range 5 {
		version := number(t, e.write("rotate", map[string]any{"secrets": "db"}), "version")
		e.endSessions()
		e.reaches(s, version, 20*time.Second)
		before := len(requests.all())
		e.eventually("requests with the new login", time.Minute, func(context.Context) error {
			if more := len(requests.all()) - before; more < 20 {
				return fmt.Errorf("there were %d", more)
			}
			return nil
		})
	}
	requests.end(t)
}

// kitWithoutVault takes Vault away for a while: the service goes on with what it has, and
// makes up for it.
func kitWithoutVault(t *testing.T, start startKit) {
	t.Helper()
	e := newOwnEngine(t)
	e.served("alternating_users", shortTerms)
	s := start(e, e.ownLogin()...)
	requests := e.beginAt(s, 50*time.Millisecond)
	e.killVault(s)
	if err := e.vault.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.reaches(s, number(t, e.write("rotate", nil), "version"), 30*time.Second)
	requests.end(t)
	e.noRefusals()
}

// kitSignsLater has one instance read a new signing key, and takes Vault away before
// another has: that one refuses no token of the first.
func kitSignsLater(t *testing.T, start startKit) {
	t.Helper()
	e := newOwnEngine(t)
	e.served("alternating_users", longTerms)
	login := e.ownLogin()
	first, second := start(e, login...), start(e, login...)
	e.write("rotate", nil)
	token := first.accepts(text(e.creds(), "api_key")) // which makes it read
	if err := e.vault.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := second.try(http.MethodGet, "/api/test", "Authorization", "Bearer "+token); err != nil {
		t.Error(err)
	}
}
