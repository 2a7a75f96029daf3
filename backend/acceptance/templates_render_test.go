package acceptance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// byFiles has an Agent render, and a shell read, what programs on a machine get.
func byFiles(t *testing.T, a answer) outcome {
	t.Helper()
	return rendered(t, a, "agent.hcl", ".env", (*agent).sourced)
}

// byRawFile is byFiles for programs that take a line as it is.
func byRawFile(t *testing.T, a answer) outcome {
	t.Helper()
	return rendered(t, a, "agent.hcl raw.hcl", ".env.raw", func(g *agent) map[string]string {
		text, err := os.ReadFile(filepath.Join(g.dir, ".env.raw"))
		if err != nil {
			t.Fatal(err)
		}
		return variablesOf(strings.ReplaceAll(string(text), "\n", "\x00"))
	})
}

// rendered is what read makes of the file of this name, and of the authorities.
func rendered(t *testing.T, a answer, config, name string, read func(*agent) map[string]string) outcome {
	t.Helper()
	g := stored(t, a).startAgent("agent", config)
	g.eventually("files", 30*time.Second, func(context.Context) error {
		_, changed := os.Stat(filepath.Join(g.dir, "changed"))
		_, certificates := os.Stat(filepath.Join(g.dir, "db-ca.pem"))
		_, settings := os.Stat(filepath.Join(g.dir, name))
		return errors.Join(changed, certificates, settings)
	})
	settings := read(g)
	if got, want := settings["DATABASE_PASSWORD"], a["db_password"]; got != want {
		t.Errorf("the password is not what it was")
	}
	file := settings["DB_SSLROOTCERT"]
	if strings.HasPrefix(settings["DB_SSLMODE"], "verify-") != (file != "") {
		t.Errorf("DB_SSLROOTCERT is %q with sslmode %s", file, settings["DB_SSLMODE"])
	}
	if file == "" || file == "system" {
		return outcome{settings["DB_SSLMODE"], ""}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g.connects(settings)
	return outcome{settings["DB_SSLMODE"], certificatesOf(string(text))}
}

// certificatesOf drops the comments before certificates.
func certificatesOf(text string) string { return text[max(0, strings.Index(text, "-----BEGIN")):] }

// sourced are the variables of .env, as a shell reads it.
func (g *agent) sourced() map[string]string {
	g.Helper()
	out, err := exec.CommandContext(g.Context(), "env", "-i", "sh", "-c", `set -a; . "$0"; env -0`, filepath.Join(g.dir, ".env")).Output()
	if err != nil {
		g.Fatal(err)
	}
	return variablesOf(string(out))
}

func variablesOf(text string) map[string]string {
	found := map[string]string{}
	for line := range strings.SplitSeq(text, "\x00") {
		name, value, _ := strings.Cut(line, "=")
		found[name] = value
	}
	return found
}

// connects has libpq use what the files say: to the server, and to one with another
// CA at its place.
func (g *agent) connects(settings map[string]string) {
	g.Helper()
	other := testenv.NewPostgres(g.T, testenv.PostgresOptions{TLS: true})
	for port, fine := range map[string]bool{settings["DB_PORT"]: true, strconv.Itoa(other.Port): false} {
		cmd := exec.CommandContext(g.Context(), "psql", "-X", "-Atc", "SELECT 1", "-d", fmt.Sprintf("host=%s port=%s dbname=%s user=%s sslmode=%s sslrootcert=%s",
			settings["DB_HOST"], port, settings["DB_NAME"], settings["DB_USER"], settings["DB_SSLMODE"], settings["DB_SSLROOTCERT"]))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PGPASSWORD=" + settings["DATABASE_PASSWORD"]}
		out, err := cmd.CombinedOutput()
		if (err == nil) != fine || !fine && !strings.Contains(string(out), "SSL error") {
			g.Errorf("at the server's own port %t, psql says %v: %s", fine, err, out)
		}
	}
}

// byEnvironment has an Agent start a program that shows what it is given.
func byEnvironment(t *testing.T, a answer) outcome {
	t.Helper()
	settings := environmentOf(t, a)
	return outcome{settings["DB_SSLMODE"], settings["DB_SSL_ROOT_CERTIFICATE"]}
}

func environmentOf(t *testing.T, a answer) map[string]string {
	t.Helper()
	shown := filepath.Join(t.TempDir(), "shown")
	g := stored(t, a).supervise(fmt.Sprintf("sh -c 'env -0 >%[1]s.part && mv %[1]s.part %[1]s && exec sleep 600'", shown))
	var text []byte
	g.eventually("the program", 30*time.Second, func(context.Context) (err error) {
		text, err = os.ReadFile(shown)
		return err
	})
	return variablesOf(string(text))
}

// manifest is the resource of a kind in a file.
func manifest(t *testing.T, file, kind string) map[string]any {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader((&engine{T: t}).shipped(file)))
	for {
		var found map[string]any
		if err := decoder.Decode(&found); err != nil {
			t.Fatalf("%s has no %s: %v", file, kind, err)
		}
		if found["kind"] == kind {
			return found["spec"].(map[string]any)
		}
	}
}

// byExternalSecrets renders as the operator does: text/template with functions of
// sprig, on strings, in which what is missing is an error.
func byExternalSecrets(t *testing.T, a answer) outcome {
	t.Helper()
	rendered := externalSecrets(t, a)
	return outcome{rendered["DB_SSLMODE"], rendered["DB_SSL_ROOT_CERTIFICATE"]}
}

func externalSecrets(t *testing.T, a answer) map[string]string {
	t.Helper()
	values := map[string]string{}
	for name, value := range a {
		values[name] = fmt.Sprint(value)
	}
	functions := template.FuncMap{"regexReplaceAll": func(expression, text, replacement string) string {
		return regexp.MustCompile(expression).ReplaceAllString(text, replacement)
	}}
	rendered := map[string]string{}
	spec := manifest(t, "apps/kubernetes/external-secrets.yaml", "ExternalSecret")
	for name, text := range spec["target"].(map[string]any)["template"].(map[string]any)["data"].(map[string]any) {
		var out strings.Builder
		parsed := template.Must(template.New(name).Option("missingkey=error").Funcs(functions).Parse(text.(string)))
		if err := parsed.Execute(&out, values); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		rendered[name] = out.String()
	}
	return rendered
}

// reader is a program of readers/.
func reader(e *engine, name string) string {
	e.Helper()
	program, err := testenv.Reader(e.Context(), name)
	if err != nil {
		e.Fatal(err)
	}
	return program
}

// bySecretsOperator copies the answer, but for what the manifest excludes. Engines from
// before leave the program connection_string.
func bySecretsOperator(t *testing.T, a answer) outcome {
	t.Helper()
	a = secretsOperator(t, a)
	if a["db_sslmode"] == nil {
		mode := regexp.MustCompile(`sslmode=([a-z-]+)`).FindStringSubmatch(text(a, "db_connection_string"))
		return outcome{mode[1], ""}
	}
	return outcome{text(a, "db_sslmode"), text(a, "db_ssl_root_certificate")}
}

// secretsOperator is what the first Secret of the manifest has of an answer.
func secretsOperator(t *testing.T, a answer) answer {
	t.Helper()
	destination := manifest(t, "apps/kubernetes/vault-secrets-operator.yaml", "VaultDynamicSecret")["destination"].(map[string]any)
	transformation := destination["transformation"].(map[string]any)
	if len(transformation) != 2 || transformation["excludeRaw"] != true {
		t.Errorf("the Secret is not what creds answers: %v", transformation)
	}
	a = maps.Clone(a)
	for _, expression := range transformation["excludes"].([]any) {
		excluded := regexp.MustCompile(expression.(string))
		maps.DeleteFunc(a, func(name string, _ any) bool { return excluded.MatchString(name) })
	}
	return a
}
