//go:build kits

package acceptance

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// jars are what the kit for Java needs, and somebody who prints what it logs.
var jars = []string{"HikariCP", "postgresql", "gson", "slf4j-api", "slf4j-jdk14"}

// javaKit compiles the kit, its example and the tests' program once, and returns the
// class path.
var javaKit = sync.OnceValues(func() (string, error) {
	root, err := testenv.Root()
	if err != nil {
		return "", err
	}
	classes := filepath.Join(root, "bin", "java")
	if err := os.MkdirAll(classes, 0o750); err != nil { // javac warns of a class path that is not there
		return "", err
	}
	path := classes
	for _, jar := range jars {
		path += ":/usr/share/java/" + jar + ".jar"
	}
	args := []string{"-Xlint:all", "-Werror", "--release", "17", "-d", classes, "-cp", path}
	for _, pattern := range []string{"bootstrap/apps/java/*/*.java", "backend/acceptance/java/*.java"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return "", err
		}
		args = append(args, files...)
	}
	cmd := exec.Command("javac", args...) //nolint:gosec,noctx // Files of this repository, for all tests.
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return path, cmd.Run()
})

// java returns the arguments that run a class of the kit.
func java(t *testing.T, class string) []string {
	t.Helper()
	path, err := javaKit()
	if err != nil {
		t.Fatalf("javac (scripts/kits.sh installs it, and the libraries): %v", err)
	}
	return []string{"-cp", path, class}
}

// javaService starts bootstrap/apps/java/example.
func javaService(e *engine, env ...string) *service {
	e.Helper()
	return e.kitService(env, "java", java(e.T, "example.Main")...)
}

// TestJavaServices runs the example for Java through rotations.
func TestJavaServices(t *testing.T) {
	t.Parallel()
	kitThroughRotations(t, javaService, map[string]any{"algorithm": "HS512"})
}

// TestJavaServiceWithRefusedLogins has PostgreSQL refuse logins.
func TestJavaServiceWithRefusedLogins(t *testing.T) {
	t.Parallel()
	kitWithRefusedLogins(t, javaService)
}

// TestJavaServiceWithoutVault takes Vault away for a while.
func TestJavaServiceWithoutVault(t *testing.T) {
	t.Parallel()
	kitWithoutVault(t, javaService)
}

// TestJavaServiceSignsLater takes Vault away when one of two instances has a new key.
func TestJavaServiceSignsLater(t *testing.T) {
	t.Parallel()
	kitSignsLater(t, javaService)
}

// TestJavaKeys signs and verifies with keys of each kind, current and previous.
func TestJavaKeys(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", longTerms)
	for _, algorithm := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		e.write("secrets/default/jwt", map[string]any{"type": "jwt", "algorithm": algorithm, "exportable": algorithm != "HS256"})
		e.write("rotate", nil)
		e.write("rotate", nil)
		creds := e.creds()
		text, err := json.Marshal(creds)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "creds.json")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "java", append(java(t, "Keys"), file)...).CombinedOutput()
		if want := creds["jwt_kid"].(string) + " " + creds["jwt_previous_kid"].(string) + "\n"; err != nil || !strings.HasSuffix(string(out), want) {
			t.Errorf("with keys of %s, Java says %q: %v", algorithm, out, err)
		}
	}
}

// TestJavaKeysInAFlood offers so many wrong API keys at once that a service whose threads
// wait for each of them would stop.
func TestJavaKeysInAFlood(t *testing.T) {
	t.Parallel()
	if out, err := exec.CommandContext(t.Context(), "java", java(t, "Flood")...).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
