package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

// operator is one that makes Secrets of creds.
type operator struct {
	// name is that of its module in scripts/tools, and of its manifest.
	name, title, program string
	env, arguments       []string
	// interval is the time between two reads, which policy and manifest make the same.
	interval time.Duration
	policy   map[string]any
	// rotations are how often to rotate; the last one is scheduled every period.
	rotations int
	period    time.Duration
	// restarts are those of the Deployment for each rotation, tokens those that it
	// leaves in Vault at any time.
	restarts, tokens int
	secrets          []secret
}

// secret is a Secret that a manifest makes.
type secret struct {
	name string
	// content is what it has of an answer of creds.
	content func(creds map[string]any) map[string]string
	// writes are the changes for each rotation, with those at the end of its overlap.
	writes int
}

// tolerance is what may come to the interval before a Secret has new values.
const tolerance = 5 * time.Second

var operators = []operator{
	{
		name: "vault-secrets-operator", title: "Vault Secrets Operator 0.10.0", program: "github.com/hashicorp/vault-secrets-operator",
		env:       []string{"OPERATOR_NAMESPACE=default"},
		arguments: []string{"--leader-elect=false", "--metrics-bind-address=0", "--health-probe-bind-address=0"},
		interval:  10 * time.Second, rotations: 4, period: 75 * time.Second,
		policy:   map[string]any{"overlap": "30s", "refresh_interval": "10s"},
		restarts: 1, tokens: 1,
		secrets: []secret{
			{name: "smvm-api", content: currentFields, writes: 1},
			{name: "smvm-api-files", content: allFields, writes: 2},
		},
	},
	{
		name: "external-secrets", title: "External Secrets Operator 0.20.4", program: "github.com/external-secrets/external-secrets",
		arguments: []string{"--metrics-addr=0", "--live-addr=0"},
		interval:  time.Minute, rotations: 2, period: 5 * time.Minute,
		policy:  map[string]any{"overlap": "2m", "refresh_interval": "1m"},
		secrets: []secret{{name: "smvm-api", content: variables, writes: 2}},
	},
}

// header are the fields of creds that are not about a value, but for the version.
var header = []string{"ttl", "rotation_period", "last_vault_rotation", "next_vault_rotation"}

// allFields are the fields of creds under their own names.
func allFields(creds map[string]any) map[string]string {
	content := map[string]string{}
	for name, value := range creds {
		if !slices.Contains(header, name) {
			content[name] = fmt.Sprint(value)
		}
	}
	return content
}

var previous = regexp.MustCompile(`^[a-z]+_previous_`)

// currentFields is allFields without the previous values.
func currentFields(creds map[string]any) map[string]string {
	content := allFields(creds)
	maps.DeleteFunc(content, func(name, _ string) bool { return previous.MatchString(name) })
	return content
}

// variables are the fields of creds under the names that services have them by in their
// environment. Those that creds does not have are empty.
func variables(creds map[string]any) map[string]string {
	content := map[string]string{}
	for name, field := range map[string]string{
		"SMVM_VERSION": "version", "DB_HOST": "db_host", "DB_PORT": "db_port", "DB_NAME": "db_database",
		"DB_SSLMODE": "db_sslmode", "DB_SSL_ROOT_CERTIFICATE": "db_ssl_root_certificate",
		"DB_USER": "db_username", "DATABASE_PASSWORD": "db_password",
		"JWT_ALGORITHM": "jwt_algorithm", "JWT_KID": "jwt_kid", "JWT_SECRET": "jwt_secret",
		"JWT_PREVIOUS_KID": "jwt_previous_kid", "JWT_PREVIOUS_SECRET": "jwt_previous_secret",
		"API_KEY": "api_key", "API_PREVIOUS_KEY": "api_previous_key",
	} {
		if content[name] = ""; creds[field] != nil {
			content[name] = fmt.Sprint(creds[field])
		}
	}
	return content
}
