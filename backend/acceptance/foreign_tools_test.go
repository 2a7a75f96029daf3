package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// foreign is a Node process with the libraries that other people wrote.
type foreign struct {
	*testing.T
	mu      sync.Mutex
	to      io.Writer
	answers *bufio.Scanner
}

// newForeign starts node/foreign.mjs.
func newForeign(t *testing.T) *foreign {
	t.Helper()
	cmd := nodeScript(t, "backend/acceptance/node/foreign.mjs")
	to, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	from, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = to.Close()
		_ = cmd.Wait()
	})
	answers := bufio.NewScanner(from)
	answers.Buffer(nil, 1<<20)
	return &foreign{T: t, to: to, answers: answers}
}

// nodeScript is a script of this repository beside the libraries that it imports.
func nodeScript(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	modules, err := testenv.NodeModules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, filepath.Dir(path)))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(modules, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, filepath.Base(path))
	cmd := exec.CommandContext(context.Background(), "node", script)
	cmd.Stderr = os.Stderr
	t.Cleanup(func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
		}
	})
	return cmd
}

// call has one thing done, and returns what came of it; nil if it failed.
func (f *foreign) call(request map[string]any) any {
	f.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	line, err := json.Marshal(request)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := f.to.Write(append(line, '\n')); err != nil {
		f.Fatal(err)
	}
	if !f.answers.Scan() {
		f.Fatalf("node does not answer: %v", f.answers.Err())
	}
	var answer struct {
		Result any
		Error  string
	}
	if err := json.Unmarshal(f.answers.Bytes(), &answer); err != nil {
		f.Fatal(err)
	}
	if answer.Error != "" {
		f.Errorf("%s %s by %s: %s", request["operation"], request["algorithm"], request["library"], answer.Error)
	}
	return answer.Result
}

// openssl runs it, with the input where secrets go, and returns what it says.
func openssl(t *testing.T, input []byte, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("openssl %s: %v", args[0], err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// opensslKey makes a private key, in the different forms that there are.
func opensslKey(t *testing.T, algorithm string) string {
	t.Helper()
	switch algorithm {
	case "RS384":
		return openssl(t, nil, "genrsa", "-traditional", "2048") // PKCS #1
	case "ES256":
		return openssl(t, nil, "ecparam", "-name", "prime256v1", "-genkey") // SEC 1, after its parameters
	case "ES384":
		return openssl(t, nil, "ecparam", "-name", "secp384r1", "-genkey", "-noout")
	case "ES512":
		return openssl(t, nil, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp521r1") // PKCS #8
	case "EdDSA":
		return openssl(t, nil, "genpkey", "-algorithm", "ed25519")
	}
	return openssl(t, nil, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
}

// opensslVerify lets openssl verify the signature of a token.
func opensslVerify(t *testing.T, algorithm, publicKey, token string) {
	t.Helper()
	at := strings.LastIndex(token, ".")
	signature, err := base64.RawURLEncoding.DecodeString(token[at+1:])
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(algorithm, "ES") {
		half := len(signature) / 2
		signature, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])})
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, sig, data := file("key", []byte(publicKey)), file("signature", signature), file("data", []byte(token[:at]))
	args := []string{"dgst", "-sha" + strings.TrimLeft(algorithm, "RPES"), "-verify", key, "-signature", sig}
	if strings.HasPrefix(algorithm, "PS") {
		args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
	}
	args = append(args, data)
	if algorithm == "EdDSA" {
		args = []string{"pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", data, "-sigfile", sig}
	}
	if said := openssl(t, nil, args...); !strings.Contains(said, "Verified") {
		t.Errorf("openssl says of a token of %s: %s", algorithm, said)
	}
}
