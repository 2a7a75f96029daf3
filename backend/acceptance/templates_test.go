package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"gopkg.in/yaml.v3"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// answer is what creds of a role answers.
type answer map[string]any

// answerOf is an answer for the shared server, by the mode.
func answerOf(mode, certificate string) answer {
	password := shared.postgres.Password
	return answer{
		"version": 7, "ttl": 10, "rotation_period": 3600, "last_vault_rotation": "2026-11-29T00:00:00Z", "next_vault_rotation": "2026-11-29T01:00:00Z",
		"db_host": shared.postgres.Host, "db_port": strconv.Itoa(shared.postgres.Port), "db_database": "postgres",
		"db_username": testenv.Superuser, "db_password": password, "db_sslmode": mode, "db_ssl_root_certificate": certificate,
		"db_connection_string": fmt.Sprintf("postgresql://%s:%s@%s/postgres?sslmode=%s&target_session_attrs=read-write", testenv.Superuser, password, shared.postgres.Address(), mode),
		"jwt_algorithm":        "HS256", "jwt_kid": "1", "jwt_secret": "a secret", "api_key": "a key",
	}
}

// before is the answer of an engine that knew no sslmode.
func (a answer) before() answer {
	a = maps.Clone(a)
	delete(a, "db_sslmode")
	delete(a, "db_ssl_root_certificate")
	return a
}

// with is the answer with another value.
func (a answer) with(name string, value any) answer {
	a = maps.Clone(a)
	a[name] = value
	return a
}

// stored has Vault answer that at a path of its own, for Agents that log in with
// the policy of applications.
func stored(t *testing.T, a answer) *engine {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", ",", "", " ", "-", "'", "").Replace(t.Name()))
	e := &engine{T: t, vault: shared.vault, postgres: shared.postgres, path: name}
	if err := shared.vault.Client.Sys().MountWithContext(t.Context(), name, &api.MountInput{Type: "kv"}); err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string]answer{"creds/default": a, "roles/default": {"auto_rotate": true}} { // enroll.sh looks whether there is the role
		if _, err := shared.vault.Client.Logical().WriteWithContext(t.Context(), name+"/"+path, data); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// outcome is what a program gets of an answer: how it is to verify the server, and
// against whom, in PEM.
type outcome struct{ mode, certificate string }

// renderers are the ways of bootstrap/ into a program, by file.
var renderers = map[string]func(t *testing.T, a answer) outcome{
	"apps/agent/templates/env.ctmpl":              byFiles,
	"apps/agent/templates/env.raw.ctmpl":          byRawFile,
	"apps/agent/agent-exec.hcl":                   byEnvironment,
	"apps/kubernetes/external-secrets.yaml":       byExternalSecrets,
	"apps/kubernetes/vault-secrets-operator.yaml": bySecretsOperator,
}

// TestTemplatesCarryTLS renders each, from what the engine answers and from what it
// used to: a program is told how to verify the server, and never nothing.
func TestTemplatesCarryTLS(t *testing.T) {
	t.Parallel()
	full := answerOf("verify-full", shared.postgres.CAPEM)
	for file, render := range renderers {
		for name, test := range map[string]struct {
			a    answer
			want outcome
		}{
			"now":             {full, outcome{"verify-full", shared.postgres.CAPEM}},
			"by the system's": {answerOf("verify-full", ""), outcome{"verify-full", ""}},
			"without TLS":     {answerOf("disable", ""), outcome{"disable", ""}},
			"before":          {full.before(), outcome{"verify-full", ""}},
			"before, require": {answerOf("require", "").before(), outcome{"require", ""}},
		} {
			t.Run(strings.NewReplacer("/", " ", ".", " ").Replace(file)+" "+name, func(t *testing.T) {
				t.Parallel()
				got := render(t, test.a)
				if got.mode != test.want.mode || strings.TrimSpace(got.certificate) != strings.TrimSpace(test.want.certificate) {
					t.Errorf("it makes sslmode %q and the certificate %q of that", got.mode, got.certificate)
				}
			})
		}
	}
}

// TestSupervisedWithHashes has an Agent supervise an application whose API key is kept as a
// hash: it starts, with the hashes.
func TestSupervisedWithHashes(t *testing.T) {
	t.Parallel()
	a := answerOf("disable", "").with("api_key_sha256", "of the current").with("api_previous_key_sha256", "of the previous")
	delete(a, "api_key")
	settings := environmentOf(t, a)
	if settings["API_KEY_SHA256"] != "of the current" || settings["API_PREVIOUS_KEY_SHA256"] != "of the previous" || settings["API_KEY"] != "" {
		t.Errorf("it has %q, %q, %q", settings["API_KEY_SHA256"], settings["API_PREVIOUS_KEY_SHA256"], settings["API_KEY"])
	}
}

// TestTemplatesInAnOverlap renders what the operators make a Secret of, with previous
// values and without. External Secrets Operator has all of them, and where there are none
// it has empty ones. Vault Secrets Operator has none: what changes restarts pods.
func TestTemplatesInAnOverlap(t *testing.T) {
	t.Parallel()
	current := map[string]string{
		"SMVM_VERSION": "7", "DB_NAME": "postgres", "DB_USER": testenv.Superuser, "DB_SSLMODE": "verify-full",
		"JWT_ALGORITHM": "HS256", "JWT_KID": "1", "JWT_SECRET": "a secret", "API_KEY": "a key",
	}
	full := answerOf("verify-full", shared.postgres.CAPEM)
	overlap := full.with("jwt_previous_kid", "0").with("jwt_previous_secret", "a previous secret").with("jwt_previous_algorithm", "HS256").with("api_previous_key", "a previous key")
	for name, test := range map[string]struct {
		a        answer
		previous [3]string
	}{
		"without":            {full, [3]string{}},
		"within":             {overlap, [3]string{"0", "a previous secret", "a previous key"}},
		"without, by before": {full.before(), [3]string{}},
		"within, by before":  {overlap.before(), [3]string{"0", "a previous secret", "a previous key"}},
		"within, of one":     {full.with("api_previous_key", "a previous key"), [3]string{"", "", "a previous key"}},
	} {
		rendered := externalSecrets(t, test.a)
		for variable, want := range current {
			if rendered[variable] != want {
				t.Errorf("%s: %s is %q, want %q", name, variable, rendered[variable], want)
			}
		}
		if got, want := secretsOperator(t, test.a), secretsOperator(t, full.with("ttl", 1)); !maps.Equal(got, want) && test.a["db_sslmode"] != nil {
			t.Errorf("%s: Vault Secrets Operator restarts pods, with %v instead of %v", name, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		for i, variable := range []string{"JWT_PREVIOUS_KID", "JWT_PREVIOUS_SECRET", "API_PREVIOUS_KEY"} {
			if got, ok := rendered[variable]; !ok || got != test.previous[i] {
				t.Errorf("%s: %s is %q, want %q", name, variable, got, test.previous[i])
			}
		}
	}
}

// TestTemplatesAreAll finds what makes something of a database's login, and is not
// rendered above. Code has tests of its own.
func TestTemplatesAreAll(t *testing.T) {
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	uses := regexp.MustCompile(`db_host|DB_HOST|db_connection_string`)
	found := 0
	err = filepath.WalkDir(filepath.Join(root, "bootstrap"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || slices.Contains([]string{".go", ".java", ".md", ".mjs", ".py"}, filepath.Ext(path)) {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(filepath.Join(root, "bootstrap"), path)
		if uses.Match(text) {
			found++
			if renderers[name] == nil {
				t.Errorf("%s: add it to renderers", name)
			}
		}
		return err
	})
	if err != nil || found != len(renderers) {
		t.Errorf("%d files use a database's login, %d are rendered: %v", found, len(renderers), err)
	}
}

// TestTemplatesOfEveryKey has Agents hand keys of each kind to smvm-api: by files, where
// it reads all of a key, and by the environment; in the overlap from a key of one kind to
// one of the other, and without a private part.
func TestTemplatesOfEveryKey(t *testing.T) {
	t.Parallel()
	const public, private, previous = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n", "-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n", "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
	remember(private)
	hmac := answerOf("disable", "")
	asymmetric := hmac.with("jwt_algorithm", "EdDSA").with("jwt_public_key", public)
	delete(asymmetric, "jwt_secret")
	for name, a := range map[string]answer{
		"HMAC":             hmac,
		"HMAC, overlap":    hmac.with("jwt_previous_algorithm", "ES256").with("jwt_previous_kid", "0").with("jwt_previous_public_key", previous),
		"public":           asymmetric,
		"exportable":       asymmetric.with("jwt_private_key", private),
		"EdDSA after RSA":  asymmetric.with("jwt_private_key", private).with("jwt_previous_algorithm", "RS256").with("jwt_previous_kid", "0").with("jwt_previous_public_key", previous),
		"EdDSA after HMAC": asymmetric.with("jwt_previous_algorithm", "HS256").with("jwt_previous_kid", "0").with("jwt_previous_secret", "the old one"),
	} {
		want := map[string]string{}
		for field, value := range a {
			if strings.HasPrefix(field, "jwt_") || strings.HasPrefix(field, "api_") {
				want[field] = value.(string)
			}
		}
		t.Run(name+" files", func(t *testing.T) {
			t.Parallel()
			g := stored(t, a).startAgent("agent", "agent.hcl")
			var found map[string]string
			g.eventually("config/secrets.yaml", 30*time.Second, func(context.Context) error {
				content, err := os.ReadFile(filepath.Join(g.dir, "config", "secrets.yaml"))
				return errors.Join(err, yaml.Unmarshal(content, &found))
			})
			if !maps.Equal(found, want) {
				t.Errorf("the file has %v", slices.Sorted(maps.Keys(found)))
			}
		})
		t.Run(name+" environment", func(t *testing.T) {
			t.Parallel()
			settings := environmentOf(t, a)
			for _, field := range []string{"algorithm", "kid", "secret", "public_key", "private_key", "previous_algorithm", "previous_kid", "previous_secret", "previous_public_key"} {
				if got := settings["JWT_"+strings.ToUpper(field)]; got != want["jwt_"+field] {
					t.Errorf("%s is %d bytes, want %d", field, len(got), len(want["jwt_"+field]))
				}
			}
		})
	}
}

// TestTemplatesOfHostileValues has values with all that means something to a shell,
// to YAML, to systemd and to templates. They come out as they went in, or, where a
// line feed would make another setting, nothing comes out.
func TestTemplatesOfHostileValues(t *testing.T) {
	t.Parallel()
	const nasty = "a\"b\\c$(touch /tmp/x)`id`'#: {{ .Data.version }} - *&!%@\t$HOME ${HOME} \\n\\\""
	remember(nasty)
	for _, field := range []string{"db_password", "db_username", "db_database", "db_host"} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			a := answerOf("disable", "").with(field, nasty)
			g := stored(t, a).startAgent("agent", "agent.hcl")
			g.eventually("files", 30*time.Second, func(context.Context) error {
				_, err := os.Stat(filepath.Join(g.dir, "changed"))
				return err
			})
			name := map[string]string{"db_password": "DATABASE_PASSWORD", "db_username": "DB_USER", "db_database": "DB_NAME", "db_host": "DB_HOST"}[field]
			if got := g.sourced()[name]; got != nasty {
				t.Errorf("a shell makes %q of it", got)
			}
			if got := externalSecrets(t, a)[name]; got != nasty {
				t.Errorf("External Secrets Operator makes %q of it", got)
			}
		})
		t.Run(field+" with a line feed", func(t *testing.T) {
			t.Parallel()
			g := stored(t, answerOf("verify-full", "").with(field, "a\"\nDB_SSLMODE=disable\n#")).startAgent("agent", "agent.hcl")
			g.eventually("the Agent to refuse", 30*time.Second, func(context.Context) error {
				// It shows no text of the error, which may be a value; with a mark between
				// any two characters of it, so that the line is long.
				text, err := os.ReadFile(g.program.LogPath)
				if err == nil && !strings.Contains(string(text), "templates/env.ctmpl: execute") {
					err = errors.New("it has said nothing")
				}
				return err
			})
			if text, err := os.ReadFile(filepath.Join(g.dir, ".env")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is an .env: %q, %v", text, err)
			}
		})
	}
	t.Run("certificate", func(t *testing.T) {
		t.Parallel()
		hostile := shared.postgres.CAPEM + "\"\nDB_SSLMODE=disable\njwt_secret: \"x\"\n'$(touch /tmp/x)"
		a := answerOf("verify-full", hostile)
		got := byEnvironment(t, a)
		if got.mode != "verify-full" || got.certificate != hostile {
			t.Errorf("the environment is %v", got)
		}
		if rendered := externalSecrets(t, a); rendered["DB_SSLMODE"] != "verify-full" || rendered["DB_SSL_ROOT_CERTIFICATE"] != hostile {
			t.Errorf("the Secret is %v", rendered)
		}
	})
	t.Run("secrets.yaml", func(t *testing.T) {
		t.Parallel()
		a := answerOf("disable", "").with("jwt_secret", nasty+"\njwt_algorithm: none\n").with("api_key", nasty)
		g := stored(t, a).startAgent("agent", "agent.hcl")
		var found map[string]string
		g.eventually("config/secrets.yaml", 30*time.Second, func(context.Context) error {
			content, err := os.ReadFile(filepath.Join(g.dir, "config", "secrets.yaml"))
			return errors.Join(err, yaml.Unmarshal(content, &found))
		})
		want := map[string]string{"jwt_algorithm": "HS256", "jwt_kid": "1", "jwt_secret": a["jwt_secret"].(string), "api_key": nasty}
		if gotJSON, _ := json.Marshal(found); !maps.Equal(found, want) {
			t.Errorf("it holds %s", gotJSON)
		}
	})
}
