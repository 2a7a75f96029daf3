package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/smvm/vault-plugin-secrets-smvm/bootstrap/apps/go/smvmcreds"
)

// The names of this service's secrets in its role.
const (
	secretDatabase = "db"
	secretJWT      = "jwt"
	secretAPIKey   = "api"
)

// variables are the procedure's names, and what they are called in creds. Those
// of config/secrets.yaml are the same in lower case. The certificate is text;
// files have it in one of its own, which sslRootCert names.
var variables = map[string]string{
	"DB_HOST": "db_host", "DB_PORT": "db_port", "DB_NAME": "db_database", "DB_USER": "db_username",
	"DATABASE_PASSWORD": "db_password", "DB_SSLMODE": "db_sslmode", "DB_SSL_ROOT_CERTIFICATE": "db_ssl_root_certificate",
	"JWT_ALGORITHM": "jwt_algorithm", "JWT_KID": "jwt_kid", "JWT_SECRET": "jwt_secret",
	"JWT_PUBLIC_KEY": "jwt_public_key", "JWT_PRIVATE_KEY": "jwt_private_key",
	"JWT_PREVIOUS_KID": "jwt_previous_kid", "JWT_PREVIOUS_SECRET": "jwt_previous_secret",
	"JWT_PREVIOUS_ALGORITHM": "jwt_previous_algorithm", "JWT_PREVIOUS_PUBLIC_KEY": "jwt_previous_public_key",
	"API_KEY": "api_key", "API_PREVIOUS_KEY": "api_previous_key",
}

// sslRootCert is the variable with the name of the file that has the authorities
// of the database, in PEM. Those of the system, it calls systemAuthorities, as
// libpq does.
const (
	sslRootCert       = "DB_SSLROOTCERT"
	systemAuthorities = "system"
)

// newReader returns what reads the credentials.
func newReader(s settings) (smvmcreds.Reader, error) {
	switch s.from {
	case "vault":
		address := cmp.Or(os.Getenv("VAULT_ADDR"), "https://127.0.0.1:8200")
		if inClear(address) {
			slog.Warn("VAULT_ADDR is of http and another machine: tokens and values travel in clear, and whoever answers is believed")
		}
		return &smvmcreds.Vault{Address: address, Path: s.path, Auth: newAuth()}, nil
	case "files":
		return &files{dir: s.dir}, nil
	case "environment":
		return &files{}, nil
	}
	return nil, fmt.Errorf("-from is %q; it must be vault, files or environment", s.from)
}

// inClear reports whether what is sent to an address can be read on the way.
func inClear(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback())
}

// newAuth chooses the login by what the environment has. Without any of it the
// service relies on a Vault Agent to add the token.
func newAuth() smvmcreds.Auth {
	if roleID := os.Getenv("SMVM_ROLE_ID_FILE"); roleID != "" {
		return &smvmcreds.AppRole{RoleIDFile: roleID, SecretIDFile: os.Getenv("SMVM_SECRET_ID_FILE")}
	}
	if token := os.Getenv("VAULT_TOKEN"); token != "" {
		return smvmcreds.Token(token)
	}
	return nil
}

// files reads credentials from the environment and, if dir is not empty, over
// that from dir/.env and dir/config/secrets.yaml.
type files struct{ dir string }

// Read implements smvmcreds.Reader. Files say nothing about a time, so they are
// read again only when asked for.
func (f *files) Read(context.Context, *smvmcreds.Credentials) (*smvmcreds.Credentials, error) {
	settings := map[string]string{}
	for name := range variables {
		settings[name] = os.Getenv(name)
	}
	for _, name := range []string{"SMVM_VERSION", sslRootCert} {
		settings[name] = os.Getenv(name)
	}
	if f.dir != "" {
		if err := f.overlay(settings); err != nil {
			return nil, err
		}
	}
	if err := readAuthorities(settings); err != nil {
		return nil, err
	}
	version, err := strconv.Atoi(cmp.Or(settings["SMVM_VERSION"], "1"))
	if err != nil {
		return nil, fmt.Errorf("read SMVM_VERSION: %q is not a number", settings["SMVM_VERSION"])
	}
	values := map[string]string{}
	for name, field := range variables {
		values[field] = settings[name]
	}
	values["jwt_algorithm"] = cmp.Or(values["jwt_algorithm"], "HS256")
	values["jwt_kid"] = cmp.Or(values["jwt_kid"], "1")
	return smvmcreds.NewCredentials(version, values), nil
}

// overlay puts what the two files say over the settings.
func (f *files) overlay(settings map[string]string) error {
	text, err := os.ReadFile(filepath.Join(f.dir, ".env"))
	if err != nil {
		return fmt.Errorf("read .env: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(name, "#") {
			settings[name] = unquote(value)
		}
	}
	text, err = os.ReadFile(filepath.Join(f.dir, "config", "secrets.yaml"))
	if err != nil {
		return fmt.Errorf("read config/secrets.yaml: %w", err)
	}
	var secrets map[string]string
	if yaml.Unmarshal(text, &secrets) != nil {
		return fmt.Errorf("read config/secrets.yaml: it is not a list of names and values")
	}
	for name, value := range secrets {
		settings[strings.ToUpper(name)] = value
	}
	return nil
}

// readAuthorities reads the file that the settings name. An empty one is an error:
// it would stand for the authorities of the system.
func readAuthorities(settings map[string]string) error {
	file := settings[sslRootCert]
	if file == "" {
		return nil
	}
	settings["DB_SSL_ROOT_CERTIFICATE"] = ""
	if file == systemAuthorities {
		return nil
	}
	text, err := os.ReadFile(file) //nolint:gosec // the service's own configuration
	if err != nil {
		return fmt.Errorf("read %s: %w", sslRootCert, err)
	}
	if len(text) == 0 {
		return fmt.Errorf("read %s: %s is empty", sslRootCert, file)
	}
	settings["DB_SSL_ROOT_CERTIFICATE"] = string(text)
	return nil
}

// unquote undoes the quoting of a value as the shell and systemd know it: none, or
// all of it in one pair of quotes.
func unquote(value string) string {
	if len(value) < 2 || value[0] != value[len(value)-1] {
		return value
	}
	inside := value[1 : len(value)-1]
	switch value[0] {
	case '\'':
		return inside
	case '"':
		return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\$`, `$`, "\\`", "`").Replace(inside)
	}
	return value
}
