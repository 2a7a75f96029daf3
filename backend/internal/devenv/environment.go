package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// variable is one environment variable for the command.
type variable struct{ name, value string }

// environment returns what the command needs to talk to the servers as their
// administrator, and where their logs are.
func environment(pg *testenv.Postgres, v *testenv.Vault, binary string) []variable {
	path := strings.Join([]string{filepath.Dir(v.Binary), pg.BinDir, os.Getenv("PATH")}, string(os.PathListSeparator))
	return []variable{
		{"PATH", path},
		{"VAULT_ADDR", v.Address},
		{"VAULT_TOKEN", v.RootToken},
		{"PGHOST", pg.Host},
		{"PGPORT", fmt.Sprint(pg.Port)},
		{"PGUSER", testenv.Superuser},
		{"PGPASSWORD", pg.Password},
		{"SMVM_PLUGIN_BINARY", binary},
		{"SMVM_PLUGIN_DIR", v.PluginDir},
		{"SMVM_AUDIT_LOG", v.AuditLogPath},
		{"SMVM_VAULT_LOG", v.LogPath},
		{"SMVM_PG_LOG", pg.LogPath},
	}
}

// foreign are settings for other servers, which would mislead the command.
var foreign = []string{"VAULT_NAMESPACE", "VAULT_CACERT", "VAULT_SKIP_VERIFY", "PGSERVICE", "PGDATABASE", "PGSSLMODE", "PGHOSTADDR"}

// apply returns the environment base with env set and foreign settings left out.
func apply(base []string, env []variable) []string {
	result := slices.DeleteFunc(slices.Clone(base), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(foreign, name)
	})
	for _, v := range env {
		result = append(result, v.name+"="+v.value)
	}
	return result
}

// lookPath finds a command that has no slash in the PATH of env; "" if it is
// not there or needs no search.
func lookPath(command string, env []variable) string {
	if strings.ContainsRune(command, filepath.Separator) {
		return ""
	}
	for _, dir := range filepath.SplitList(env[0].value) {
		path := filepath.Join(dir, command)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// wait prints how to talk to the servers, and returns when ctx ends.
func wait(ctx context.Context, env []variable) error {
	fmt.Print("\nVault and PostgreSQL are running. In another terminal:\n\n")
	export(env)
	fmt.Print(`
and then, for example:

  vault status
  vault secrets enable -path=smvm ` + testenv.PluginName + `   # once, unless started with -enable
  vault path-help smvm
  psql -c 'SELECT version()'
  tail -f "$SMVM_AUDIT_LOG"

Ctrl-C here stops both and removes everything they had.
`)
	<-ctx.Done()
	fmt.Fprintln(os.Stderr, "\ndevenv: stopping")
	return nil
}

// export prints the commands that set env.
func export(env []variable) {
	for _, v := range env {
		fmt.Printf("  export %s=%s\n", v.name, quote(v.value))
	}
}

// quote makes a value safe for a POSIX shell.
func quote(value string) string { return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'" }
