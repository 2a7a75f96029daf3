package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// world is what everything is measured in: one Vault with raft on disk, one
// PostgreSQL that is as durable as in production, and in that Vault the engine, the
// engines that it is compared with, and the plugins that do nothing.
type world struct {
	vault    *testenv.Vault
	postgres *testenv.Postgres
	admin    *pgx.Conn // the superuser, to prepare and to look
	compared []series  // so far
	*caller
}

// The mounts.
const (
	ours    = "smvm"
	builtin = "database"
	keys    = "kv"
	nothing = "noop"
)

// The administrators that the engines log in as.
const (
	ourAdmin      = "bench_smvm"
	builtinAdmin  = "bench_builtin"
	adminPassword = "first-password-0123456789"
)

// noopPlugin is the name of the plugin that does nothing in Vault's catalog.
const noopPlugin = "noop"

// newWorld starts everything. What it returns needs a stop also when there is an
// error.
func newWorld(ctx context.Context) (w *world, err error) {
	w = &world{}
	say("starting PostgreSQL and Vault, building the plugins")
	quiet := map[string]string{"log_statement": "none", "log_connections": "off"}
	if w.postgres, err = testenv.StartPostgres(ctx, testenv.PostgresOptions{Settings: quiet}); err != nil {
		return w, err
	}
	if w.vault, err = testenv.StartVault(ctx, testenv.VaultOptions{Quiet: true}); err != nil {
		return w, err
	}
	w.caller = newCaller(w.vault.Address, w.vault.RootToken)
	if w.admin, err = pgx.Connect(ctx, w.postgres.SuperuserDSN()); err != nil {
		return w, fmt.Errorf("log in to PostgreSQL: %w", err)
	}
	if err = w.installPlugins(ctx); err != nil {
		return w, err
	}
	return w, w.prepare(ctx)
}

func (w *world) stop(ctx context.Context) error {
	if w.admin != nil {
		_ = w.admin.Close(ctx)
	}
	return errors.Join(w.vault.Stop(), w.postgres.Stop())
}

func (w *world) installPlugins(ctx context.Context) error {
	plugin, err := testenv.BuildPlugin(ctx, testenv.BuildOptions{})
	if err == nil {
		err = w.vault.RegisterPlugin(ctx, plugin, "")
	}
	if err != nil {
		return err
	}
	return w.installNoop(ctx)
}

// installNoop builds the plugin that does nothing, and registers it.
func (w *world) installNoop(ctx context.Context) error {
	root, err := testenv.Root()
	if err != nil {
		return err
	}
	target := filepath.Join(w.vault.PluginDir, noopPlugin)
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", target, "./backend/internal/bench/noop") //nolint:gosec // our own
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build plugin that does nothing: %w: %s", err, out)
	}
	return w.vault.RegisterFile(ctx, noopPlugin)
}

// step is one request that prepares something.
type step struct {
	path string
	data map[string]any
}

// prepare enables the mounts, and connects both engines to PostgreSQL.
func (w *world) prepare(ctx context.Context) error {
	for _, admin := range []string{ourAdmin, builtinAdmin} {
		if _, err := w.admin.Exec(ctx, fmt.Sprintf("CREATE ROLE %s LOGIN CREATEROLE PASSWORD '%s'", admin, adminPassword)); err != nil {
			return fmt.Errorf("create administrator: %w", err)
		}
	}
	return w.write(ctx, []step{
		{"sys/mounts/" + ours, map[string]any{"type": testenv.PluginName}},
		{"sys/mounts/" + nothing, map[string]any{"type": noopPlugin}},
		{"sys/mounts/" + builtin, map[string]any{"type": "database"}},
		{"sys/mounts/" + keys, map[string]any{"type": "kv", "options": map[string]any{"version": "2"}}},
		{ours + "/connections/main", map[string]any{
			"host": w.postgres.Host, "port": w.postgres.Port, "database": "postgres", "sslmode": "disable",
			"username": ourAdmin, "password": adminPassword, "allowed_roles": "*",
		}},
		{builtin + "/config/main", map[string]any{
			"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "username": builtinAdmin, "password": adminPassword,
			"connection_url":          fmt.Sprintf("postgresql://{{username}}:{{password}}@%s/postgres?sslmode=disable", w.postgres.Address()),
			"password_authentication": "scram-sha-256",
		}},
	})
}

// write sends the requests one after the other; a mount that was just enabled may
// need a moment.
func (w *world) write(ctx context.Context, steps []step) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, s := range steps {
		err := testenv.Eventually(ctx, "write "+s.path, func(ctx context.Context) error {
			return w.post(ctx, s.path, s.data)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// createUsers makes PostgreSQL users: the prefix and a number from zero on.
func (w *world) createUsers(ctx context.Context, prefix string, count int) error {
	_, err := w.admin.Exec(ctx, fmt.Sprintf("DO $$ BEGIN FOR i IN 0..%d LOOP EXECUTE format('CREATE ROLE %s%%s LOGIN', i); END LOOP; END $$", count-1, prefix))
	if err != nil {
		return fmt.Errorf("create users: %w", err)
	}
	return nil
}

// machine says what was measured with what.
func (w *world) machine(ctx context.Context) string {
	cpu := "unknown processor"
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range bytes.Lines(info) {
		if name, value, found := strings.Cut(string(line), ":"); found && strings.TrimSpace(name) == "model name" {
			cpu = strings.TrimSpace(value)
			break
		}
	}
	var server string
	_ = w.admin.QueryRow(ctx, "SHOW server_version").Scan(&server)
	return fmt.Sprintf("Measured %s on %d processors (%s), Vault with raft on disk, PostgreSQL %s, by `make bench-report`.",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), cpu, strings.Fields(server + " ?")[0])
}
