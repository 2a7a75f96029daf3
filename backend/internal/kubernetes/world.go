package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// world is what all operators share: a Vault with the engine at smvm/, a PostgreSQL, and
// the files that a reader of the documents has.
type world struct {
	vault    *testenv.Vault
	postgres *testenv.Postgres
	// files is a directory with a copy of bootstrap/, for this Vault.
	files string
	// section is "Kubernetes" of docs/applications.md.
	section string
	audit   audit
}

// newWorld starts everything. What it returns needs a stop also when there is an error.
func newWorld(ctx context.Context) (w *world, err error) {
	w = &world{}
	say("starting PostgreSQL and Vault, building the plugin")
	if w.postgres, err = testenv.StartPostgres(ctx, testenv.Unsynced(testenv.PostgresOptions{TLS: true})); err != nil {
		return w, err
	}
	if w.vault, err = testenv.StartVault(ctx, testenv.VaultOptions{}); err != nil {
		return w, err
	}
	w.audit.path = w.vault.AuditLogPath
	if err := w.install(ctx); err != nil {
		return w, err
	}
	if err := w.setUp(ctx); err != nil {
		return w, err
	}
	return w, w.copyFiles()
}

func (w *world) stop() error {
	return errors.Join(w.vault.Stop(), w.postgres.Stop(), os.RemoveAll(w.files))
}

// install registers the engine, and Vault's own auth method for Kubernetes.
func (w *world) install(ctx context.Context) error {
	plugin, err := testenv.BuildPlugin(ctx, testenv.BuildOptions{})
	if err != nil {
		return err
	}
	if err := w.vault.RegisterPlugin(ctx, plugin, ""); err != nil {
		return err
	}
	if err := w.vault.Enable(ctx, "smvm", ""); err != nil {
		return err
	}
	auth, err := testenv.Tool(ctx, "vault", "github.com/hashicorp/vault-plugin-auth-kubernetes/cmd/vault-plugin-auth-kubernetes")
	if err != nil {
		return err
	}
	return w.vault.RegisterAuthPlugin(ctx, "kubernetes", auth)
}

// firstPassword is replaced by rotate-root before anything else happens.
const firstPassword = "first-password-0123456789"

// setUp makes the role default, on users of PostgreSQL of its own.
func (w *world) setUp(ctx context.Context) error {
	for _, statement := range []string{
		"CREATE ROLE smvm_admin LOGIN CREATEROLE PASSWORD '" + firstPassword + "'",
		"CREATE ROLE orders_owner NOLOGIN",
		"CREATE ROLE orders_a LOGIN IN ROLE orders_owner", "GRANT orders_a TO smvm_admin WITH ADMIN OPTION",
		"CREATE ROLE orders_b LOGIN IN ROLE orders_owner", "GRANT orders_b TO smvm_admin WITH ADMIN OPTION",
	} {
		if err := w.postgres.Exec(ctx, statement); err != nil {
			return err
		}
	}
	for _, step := range []struct {
		path string
		data map[string]any
	}{
		{"connections/main", map[string]any{
			"host": w.postgres.Host, "port": w.postgres.Port, "database": "postgres", "sslmode": "verify-full", "tls_ca": w.postgres.CAPEM,
			"username": "smvm_admin", "password": firstPassword, "allowed_roles": "default",
		}},
		{"rotate-root/main", nil},
		{"roles/default", map[string]any{"rotation_period": "24h"}},
		{"secrets/default/db", map[string]any{
			"type": "database", "connection": "main", "rotation_strategy": "alternating_users", "usernames": "orders_a,orders_b",
		}},
		{"secrets/default/jwt", map[string]any{"type": "jwt"}},
		{"secrets/default/api", map[string]any{"type": "api_key"}},
	} {
		if err := w.write(ctx, step.path, step.data); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) write(ctx context.Context, path string, data map[string]any) error {
	if _, err := w.vault.Client.Logical().WriteWithContext(ctx, "smvm/"+path, data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// creds is what the engine answers for the role default.
func (w *world) creds(ctx context.Context) (map[string]any, error) {
	answer, err := w.vault.Client.Logical().ReadWithContext(ctx, "smvm/creds/default")
	if err != nil {
		return nil, fmt.Errorf("read creds: %w", err)
	}
	return answer.Data, nil
}

// copyFiles reads the section, and makes the reader's files.
func (w *world) copyFiles() error {
	root, err := testenv.Root()
	if err != nil {
		return err
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "applications.md"))
	if err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	_, w.section, _ = strings.Cut(string(page), "\n## Kubernetes\n")
	w.section, _, _ = strings.Cut(w.section, "\n## ")
	if w.files, err = os.MkdirTemp("", "smvm-files-"); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.CopyFS(filepath.Join(w.files, "bootstrap"), os.DirFS(filepath.Join(root, "bootstrap"))); err != nil {
		return fmt.Errorf("copy files: %w", err)
	}
	for _, o := range operators {
		if err := w.edit(o.manifest()); err != nil {
			return err
		}
	}
	return nil
}

// edit puts the address of Vault into a manifest, as a reader has to.
func (w *world) edit(name string) error {
	path := filepath.Join(w.files, name)
	before, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	after := strings.ReplaceAll(string(before), "https://vault.example.com:8200", w.vault.Address)
	if err := os.WriteFile(path, []byte(after), 0o600); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

// tokens counts the tokens in Vault's storage that the operator's account has logged
// in for, and that are valid.
func (w *world) tokens(ctx context.Context) (count int, err error) {
	logical := w.vault.Client.Logical()
	accessors, err := logical.ListWithContext(ctx, "auth/token/accessors")
	if err != nil {
		return 0, fmt.Errorf("list tokens: %w", err)
	}
	for _, accessor := range accessors.Data["keys"].([]any) {
		token, err := logical.WriteWithContext(ctx, "auth/token/lookup-accessor", map[string]any{"accessor": accessor})
		var ended *api.ResponseError
		if errors.As(err, &ended) && (ended.StatusCode == 403 || ended.StatusCode == 404) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("look up token: %w", err)
		}
		if token.Data["display_name"] == account {
			count++
		}
	}
	return count, nil
}
