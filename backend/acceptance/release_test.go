package acceptance

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// The version is one that no other test has.
const (
	releasedVersion = "v1.2.3"
	releasedBinary  = "vault-plugin-secrets-smvm_linux_amd64_" + releasedVersion
)

// TestRelease makes a release of the working tree, verifies and installs it as
// docs/operations.md says, with what a user has, and looks into the parts. So that
// this takes seconds, it is of amd64 alone, and Go keeps what it compiled.
func TestRelease(t *testing.T) {
	t.Parallel()
	downloads := download(t, released(t))
	e, shell := newOperated(t)
	shell.dir = downloads
	shown := shell.run(strings.ReplaceAll(commandsOf(t, "docs/operations.md", "Verify and install a release"), "version=v0.1.0", "version="+releasedVersion))
	for _, words := range []string{"Signature and comment signature verified", releasedVersion + ": OK", "smvm/ runs vault-plugin-secrets-smvm " + releasedVersion} {
		if !strings.Contains(shown, words) {
			t.Errorf("one does not see %q, but\n%s", words, shown)
		}
	}
	e.runs(releasedVersion)
	t.Run("parts", func(t *testing.T) { releasedParts(t, shell, downloads) })
	t.Run("flipped", func(t *testing.T) { releasedFlipped(t, shell, downloads) })
}

// released makes a release of the working tree, signed by a key of its own, and
// returns the tree.
func released(t *testing.T) string {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	shell(t, root, `"scripts/get-release-verifiers.sh" && git ls-files -coz --exclude-standard | tar --null -T - -c | tar -x -C `+tree)
	shell(t, tree, `git init -q && minisign -G -W -s "$PWD.key" -p .github/release.pub </dev/null >/dev/null && git add -A &&
		git -c user.name=release -c user.email=release@example.com -c commit.gpgsign=false commit -qm release &&
		RELEASE_KEY=$(<"$PWD.key") scripts/release-signed.sh -quick `+releasedVersion+` &&
		make -s build VERSION=`+releasedVersion+` && cmp bin/vault-plugin-secrets-smvm bin/release/`+releasedVersion+`/`+releasedBinary)
	return tree
}

// shell runs a script, which has to succeed.
func shell(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// download is a directory with what a user takes from a release, without the modes,
// and with the public key from the repository.
func download(t *testing.T, tree string) string {
	t.Helper()
	dir := t.TempDir()
	shell(t, tree, `cp bin/release/`+releasedVersion+`/* .github/release.pub `+dir+` && chmod 644 `+dir+`/*`)
	return dir
}

// releasedParts compares what is in the package and the image with the binary, and
// reads what describes it.
func releasedParts(t *testing.T, s *terminal, downloads string) {
	s.run(`set -e
		dpkg-deb -x vault-plugin-secrets-smvm_1.2.3_amd64.deb package
		cmp ` + releasedBinary + ` package/usr/lib/vault-plugin-secrets-smvm/vault-plugin-secrets-smvm_` + releasedVersion + `
		package/usr/bin/smvm-report -help 2>&1 | grep -q verify
		package/usr/share/vault-plugin-secrets-smvm/bootstrap/install/configure.sh -help | grep -q checksums
		mkdir layout && tar -x -C layout -f ` + releasedBinary + `.oci.tar
		umoci unpack --rootless --image layout:` + releasedVersion + ` image
		cmp ` + releasedBinary + ` image/rootfs/vault-plugin-secrets-smvm
		[ "$(jq -r '.process.args[0]' image/config.json)" = /vault-plugin-secrets-smvm ]`)
	var bill struct {
		Metadata   struct{ Component struct{ Version string } }
		Components []struct{ Name string }
	}
	decodeFile(t, filepath.Join(downloads, releasedBinary+".cdx.json"), &bill)
	if bill.Metadata.Component.Version != releasedVersion || len(bill.Components) < 50 {
		t.Errorf("the bill of materials is of %q and has %d components", bill.Metadata.Component.Version, len(bill.Components))
	}
	licences := contents(t, filepath.Join(downloads, "LICENCES.txt"))
	for _, c := range bill.Components {
		if c.Name != "std" && !strings.Contains(licences, c.Name+" v") {
			t.Errorf("%s is linked, and not among the licences", c.Name)
		}
	}
	var api struct {
		Info  struct{ Version string }
		Paths map[string]any
	}
	decodeFile(t, filepath.Join(downloads, "openapi.json"), &api)
	if api.Info.Version != releasedVersion || api.Paths["/rotate/{role}"] == nil {
		t.Errorf("the API is of %q and has %d paths", api.Info.Version, len(api.Paths))
	}
}

// releasedFlipped changes a byte: of each file, which the sums have to tell, of the
// sums, which the signature has to, and of the binary, which configure.sh has to.
func releasedFlipped(t *testing.T, s *terminal, downloads string) {
	sums := contents(t, filepath.Join(downloads, "SHA256SUMS"))
	refused := func(what, command, words string) {
		t.Helper()
		if shown := s.run(command + " && echo it was taken || true"); strings.Contains(shown, "it was taken") || !strings.Contains(shown, words) {
			t.Errorf("%s: %s does not say %q, but\n%s", what, command, words, shown)
		}
	}
	for line := range strings.Lines(sums) {
		_, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		restore := flip(t, filepath.Join(downloads, name))
		refused(name, "grep '  "+name+"$' SHA256SUMS | sha256sum --quiet -c", name+": FAILED")
		if name == releasedBinary {
			refused(name, "bootstrap/install/configure.sh -path flipped -checksums SHA256SUMS "+name, "is not in SHA256SUMS")
		}
		restore()
	}
	refused("a list without it", "grep -v "+releasedBinary+"$ SHA256SUMS >others; bootstrap/install/configure.sh -path flipped -checksums others "+releasedBinary, "is not in others")
	restore := flip(t, filepath.Join(downloads, "SHA256SUMS"))
	refused("SHA256SUMS", "minisign -Vm SHA256SUMS -p release.pub", "Signature verification failed")
	restore()
	s.run("minisign -Vm SHA256SUMS -p release.pub && sha256sum -c SHA256SUMS && ! vault read sys/mounts/flipped")
}

// flip changes one bit in the middle of a file, and returns what undoes it.
func flip(t *testing.T, file string) func() {
	t.Helper()
	change := func() {
		content := []byte(contents(t, file))
		content[len(content)/2] ^= 1
		if err := testenv.WriteProgram(file, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	change()
	return change
}

func contents(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func decodeFile(t *testing.T, file string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(contents(t, file)), into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
