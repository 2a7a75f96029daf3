package acceptance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// shopFields are the settings of an application, and what creds calls them for the role
// shop, whose secrets are main-db, signing and partner.
var shopFields = map[string]string{
	"DB_HOST": "main-db_host", "DB_PORT": "main-db_port", "DB_NAME": "main-db_database", "DB_SSLMODE": "main-db_sslmode", "DB_USER": "main-db_username", "DATABASE_PASSWORD": "main-db_password",
	"JWT_ALGORITHM": "signing_algorithm", "JWT_KID": "signing_kid", "JWT_SECRET": "signing_secret", "JWT_PREVIOUS_ALGORITHM": "signing_previous_algorithm", "JWT_PREVIOUS_KID": "signing_previous_kid", "JWT_PREVIOUS_SECRET": "signing_previous_secret",
	"API_KEY": "partner_key", "API_PREVIOUS_KEY": "partner_previous_key",
}

// shop makes that role. It has been rotated once.
func (e *engine) shop() (creds map[string]any) {
	e.Helper()
	e.connect("a", "b")
	e.write("roles/shop", map[string]any{"rotation_period": "24h", "refresh_interval": "1s"})
	e.write("secrets/shop/main-db", map[string]any{"type": "database", "connection": "main", "rotation_strategy": "alternating_users", "usernames": []string{e.user("a"), e.user("b")}})
	e.write("secrets/shop/signing", map[string]any{"type": "jwt"})
	e.write("secrets/shop/partner", map[string]any{"type": "api_key"})
	e.write("rotate/shop", nil)
	return e.read("creds/shop")
}

// installs runs install.sh, then enroll.sh, for the role shop, and returns the
// directory, in which everything is, and the environment of the Agent's unit. Where the
// files lie is all that the test changes.
func (e *engine) installs(args ...string) (dir string, env []string) {
	e.Helper()
	root, err := testenv.Root()
	if err != nil {
		e.Fatal(err)
	}
	dir = e.TempDir()
	cmd := exec.CommandContext(e.Context(), filepath.Join(root, "bootstrap/apps/agent/install.sh"), append([]string{"-path", e.path, "-dir", dir, "-units", filepath.Join(dir, "units")}, args...)...)
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+e.vault.Address, "VAULT_CACERT=")
	if out, err := cmd.CombinedOutput(); err != nil {
		e.Fatalf("install.sh: %v: %s", err, out)
	}
	if said, err := e.enroll(e.vault.RootToken, "-name", e.path, "-instance", filepath.Base(dir), "-dir", dir, "shop"); err != nil {
		e.Fatalf("enroll.sh: %v: %s", err, said)
	}
	replace := strings.NewReplacer("/etc/smvm-api", dir, "/var/lib/smvm-api", dir, "/run/smvm-api", dir)
	for _, name := range []string{"agent.hcl", "agent-exec.hcl", "templates/env.ctmpl"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err := errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(replace.Replace(string(text))), 0o600)); err != nil {
			e.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "vault-agent.env"))
	if err != nil {
		e.Fatal(err)
	}
	return dir, strings.Fields(string(text))
}

// TestKitOfAnotherRole installs the kit for a role and secrets of other names: files and
// environment have the same settings as ever.
func TestKitOfAnotherRole(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	creds := e.shop()
	want := map[string]string{"SMVM_VERSION": fmt.Sprint(creds["version"])}
	for setting, field := range shopFields {
		if want[setting] = text(creds, field); want[setting] == "" {
			t.Fatalf("creds has no %s", field)
		}
	}
	dir, env := e.installs("-db", "main-db", "-jwt", "signing", "-api", "partner", "shop")
	shown := filepath.Join(dir, "shown")
	supervised := append(slices.Clone(env), fmt.Sprintf("SMVM_COMMAND=sh -c 'env -0 >%[1]s.part && mv %[1]s.part %[1]s && exec sleep 600'", shown))
	launch(t, env, e.vault.Binary, "agent", "-config="+filepath.Join(dir, "agent.hcl"))
	launch(t, supervised, e.vault.Binary, "agent", "-config="+filepath.Join(dir, "agent-exec.hcl"))
	g := &agent{engine: e, dir: dir}
	for _, file := range []string{"changed", "shown"} {
		g.appears(file)
	}
	files := g.sourced()
	for name, value := range g.yaml() {
		files[strings.ToUpper(name)] = value
	}
	environment, err := os.ReadFile(shown)
	if err != nil {
		t.Fatal(err)
	}
	for way, got := range map[string]map[string]string{"files": files, "environment": variablesOf(string(environment))} {
		for setting, value := range want {
			if got[setting] != value {
				t.Errorf("%s: %s is not what creds calls %s", way, setting, shopFields[setting])
			}
		}
	}
}

// TestKitOfFewerSecrets leaves secrets out, and misspells one: without the former the
// files are rendered, without the latter they are not, and the Agent says which.
func TestKitOfFewerSecrets(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.shop()
	dir, env := e.installs("-db", "", "-jwt", "", "-api", "partner", "shop")
	launch(t, env, e.vault.Binary, "agent", "-config="+filepath.Join(dir, "agent.hcl"))
	g := &agent{engine: e, dir: dir}
	g.appears("changed")
	if got := slices.Sorted(maps.Keys(g.yaml())); !slices.Equal(got, []string{"api_key", "api_previous_key"}) {
		t.Errorf("config/secrets.yaml has %v", got)
	}
	if text, err := os.ReadFile(filepath.Join(dir, ".env")); err != nil || strings.Contains(string(text), "DB_") || !strings.Contains(string(text), "SMVM_VERSION=") {
		t.Errorf(".env is %q, %v", text, err)
	}
	dir, env = e.installs("-db", "main-db", "-jwt", "singing", "-api", "partner", "shop")
	misspelt := launch(t, env, e.vault.Binary, "agent", "-config="+filepath.Join(dir, "agent.hcl"))
	e.eventually("the Agent to refuse", time.Minute, func(context.Context) error {
		log, err := os.ReadFile(misspelt.LogPath)
		if err == nil && !strings.Contains(string(log), "singing") {
			err = errors.New("it has not said which secret is missing")
		}
		return err
	})
	if _, err := os.Stat(filepath.Join(dir, "config/secrets.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("config/secrets.yaml: %v", err)
	}
}

// appears waits for a file of the Agent.
func (g *agent) appears(name string) {
	g.Helper()
	g.eventually(name, time.Minute, func(context.Context) error {
		_, err := os.Stat(filepath.Join(g.dir, name))
		return err
	})
}

// yaml is what config/secrets.yaml has.
func (g *agent) yaml() (found map[string]string) {
	g.Helper()
	content, err := os.ReadFile(filepath.Join(g.dir, "config", "secrets.yaml"))
	if err := errors.Join(err, yaml.Unmarshal(content, &found)); err != nil {
		g.Fatal(err)
	}
	return found
}
