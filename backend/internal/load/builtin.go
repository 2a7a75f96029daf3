package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

const (
	// builtinPlugin is the name under which Vault's own PostgreSQL plugin is
	// registered.
	builtinPlugin = "compare-postgresql"
	// builtinPeriod is how often the static role rotates.
	builtinPeriod = 10 * time.Second
	// builtinKey and builtinSecret do not rotate: a static role has a password and
	// nothing else.
	builtinKey    = "an-api-key-that-does-not-rotate"
	builtinSecret = "a-jwt-secret-that-does-not-rotate"
	// builtinKid is what the service calls a JWT key that has no name.
	builtinKid = "1"
)

// builtin is a static role of Vault's own database engine.
type builtin struct{ *site }

// newBuiltin sets up the static role as Vault's documentation does.
func (s *site) newBuiltin(ctx context.Context, sc scenario) (*builtin, error) {
	binary, err := testenv.VaultPostgreSQL(ctx)
	if err == nil {
		err = s.cluster.RegisterDatabasePlugin(ctx, builtinPlugin, binary)
	}
	if err == nil {
		err = s.prepareDatabase(ctx, sc, []string{sc.user("a")})
	}
	if err != nil {
		return nil, err
	}
	for _, step := range []struct {
		path string
		data map[string]any
	}{
		{"sys/mounts/database", map[string]any{"type": "database"}},
		{"database/config/main", map[string]any{
			"plugin_name": builtinPlugin, "allowed_roles": "*", "username": sc.user("admin"), "password": adminPassword,
			"connection_url":          fmt.Sprintf("postgresql://{{username}}:{{password}}@%s/%s?sslmode=disable", s.primary.Address(), sc.database()),
			"password_authentication": "scram-sha-256",
		}},
		{"database/rotate-root/main", nil},
		{"database/static-roles/app", map[string]any{"db_name": "main", "username": sc.user("a"), "rotation_period": builtinPeriod.String()}},
	} {
		if _, err := s.client.Logical().WriteWithContext(ctx, step.path, step.data); err != nil {
			return nil, fmt.Errorf("write %s: %w", step.path, err)
		}
	}
	return &builtin{s}, nil
}

// deliver implements engine: the same Agent, with templates for what a static
// role answers, and the gentlest way to take a new value over.
func (b *builtin) deliver(ctx context.Context, f *fleet) error {
	login := fmt.Sprintf("auto_auth {\n  method \"token_file\" {\n    config = { token_file_path = %q }\n  }\n}\n\ntemplate_config", filepath.Join(f.dir, "token"))
	if err := os.WriteFile(filepath.Join(f.dir, "token"), []byte(b.cluster.RootToken), 0o600); err != nil {
		return fmt.Errorf("write token: %w", err)
	}
	environment := "{{ with secret \"database/static-creds/app\" }}SMVM_VERSION={{ .Data.last_vault_rotation | regexReplaceAll \"[.].*|[^0-9]\" \"\" }}\nDB_USER={{ .Data.username }}\nDATABASE_PASSWORD={{ .Data.password }}\n{{ end }}"
	secrets := "{{ with secret \"database/static-creds/app\" }}jwt_secret: " + builtinSecret + "\napi_key: " + builtinKey + "\n{{ end }}"
	wanted := map[string]string{"env.ctmpl": environment, "secrets.yaml.ctmpl": secrets, "db-ca.pem.ctmpl": "# none", "read.env.ctmpl": "# none"}
	source := filepath.Join(b.root, "bootstrap", "apps", "agent")
	var replace []string
	for name, text := range wanted {
		shipped, err := os.ReadFile(filepath.Join(source, "templates", name)) //nolint:gosec // our own
		if err != nil {
			return fmt.Errorf("read template: %w", err)
		}
		replace = append(replace, string(shipped), text)
	}
	config, err := os.ReadFile(filepath.Join(source, "agent.hcl")) //nolint:gosec // our own
	if err != nil {
		return fmt.Errorf("read configuration of the Agent: %w", err)
	}
	shippedLogin := regexp.MustCompile(`(?s)auto_auth .*?template_config`).FindString(string(config))
	replace = append(replace, shippedLogin, login)
	return b.startAgent(ctx, f, strings.NewReplacer(replace...), "reload")
}

// operate implements engine: it waits for the next rotation.
func (b *builtin) operate(ctx context.Context, _ string) (time.Time, error) {
	before, err := b.creds(ctx)
	if err != nil {
		return time.Time{}, err
	}
	err = eventually(ctx, "the next rotation", func(ctx context.Context) error {
		now, err := b.creds(ctx)
		if err == nil && now.version == before.version {
			err = errors.New("it has not come")
		}
		return err
	})
	return time.Now(), err
}

// builtinVersion reduces a time to digits, as the Agent's template does: a static
// role has no version.
var builtinVersion = regexp.MustCompile(`[.].*|[^0-9]`)

// creds implements engine.
func (b *builtin) creds(ctx context.Context) (credentials, error) {
	answer, err := b.client.Logical().ReadWithContext(ctx, "database/static-creds/app")
	if err != nil {
		return credentials{}, fmt.Errorf("read static role: %w", err)
	}
	rotated, _ := answer.Data["last_vault_rotation"].(string)
	version, err := strconv.Atoi(builtinVersion.ReplaceAllString(rotated, ""))
	return credentials{version: version, key: builtinKey, kid: builtinKid}, err
}
