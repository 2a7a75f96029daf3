package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// tokenFile is a type of secret that nothing in the engine knows: a token whose target is
// a file, which holds the tokens that are accepted, one a line.
type tokenFile struct{}

type tokenFileConfig struct {
	File   string `json:"file"`
	Strict bool   `json:"strict,omitempty"`
}

func tokenFileOf(config json.RawMessage) (c tokenFileConfig, err error) {
	if err = json.Unmarshal(config, &c); err == nil && c.File == "" {
		err = fmt.Errorf("%w: file: is missing: give the path of a file", rotation.ErrInvalid)
	}
	return c, err
}

func (tokenFile) Schema() secret.Schema {
	return secret.Schema{
		Settings: []secret.Field{
			{Name: "file", Help: "the file of accepted tokens."},
			{Name: "strict", Kind: secret.Switch, Help: "whether a missing file is an error."},
		},
		Imports: []secret.Field{{Name: "token", Kind: secret.Hidden, Help: "token to import."}},
		Answers: []secret.Answer{{Name: "token", Help: "the token."}, {Name: "previous_token", Help: "the previous token; only during its overlap."}},
	}
}

func (tokenFile) Normalize(config json.RawMessage) (json.RawMessage, error) {
	var c tokenFileConfig
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

func (tokenFile) ImportField(json.RawMessage, func(string) bool) (string, error) { return "token", nil }

func (tokenFile) Validate(config json.RawMessage) error {
	_, err := tokenFileOf(config)
	return err
}

func (tokenFile) ValidateUpdate(_, _ json.RawMessage) error { return nil }

func (tokenFile) Create(context.Context, rotation.Secret) (rotation.Material, error) {
	return rotation.Material{"token": uuid.NewString()}, nil
}

func (tokenFile) Import(_ rotation.Secret, supplied string) (rotation.Material, error) {
	return rotation.Material{"token": supplied}, nil
}

// accept makes the target accept those tokens and no others.
func (tokenFile) accept(s rotation.Secret, fence rotation.Fence, values ...*rotation.Value) error {
	c, err := tokenFileOf(s.Config)
	if err != nil {
		return err
	}
	var accepted strings.Builder
	for _, v := range values {
		if v != nil {
			fmt.Fprintln(&accepted, v.Material["token"])
		}
	}
	if err := fence(context.Background()); err != nil {
		return rotation.Unchanged(err)
	}
	return os.WriteFile(c.File, []byte(accepted.String()), 0o600)
}

func (t tokenFile) Set(_ context.Context, s rotation.Secret, v rotation.Material, fence rotation.Fence) error {
	return t.accept(s, fence, s.Current, s.Previous, &rotation.Value{Material: v})
}

func (t tokenFile) Undo(_ context.Context, s rotation.Secret, fence rotation.Fence) error {
	return t.accept(s, fence, s.Current, s.Previous)
}

func (t tokenFile) Retire(_ context.Context, s rotation.Secret, v rotation.Material, fence rotation.Fence) error {
	err := t.accept(s, fence, s.Current)
	if err == nil && t.Probe(context.Background(), s, v) == nil {
		return errors.New("the retired token is accepted")
	}
	return err
}

func (tokenFile) Probe(_ context.Context, s rotation.Secret, v rotation.Material) error {
	c, err := tokenFileOf(s.Config)
	if err != nil {
		return err
	}
	accepted, err := os.ReadFile(c.File)
	if err == nil && !strings.Contains(string(accepted), v["token"]+"\n") {
		err = fmt.Errorf("%w: the file does not have it", rotation.ErrRefused)
	}
	return err
}

func (t tokenFile) Test(ctx context.Context, s rotation.Secret, v rotation.Material) error {
	return t.Probe(ctx, s, v)
}

func (tokenFile) Preflight(_ context.Context, s rotation.Secret, _ rotation.Material) ([]string, error) {
	c, err := tokenFileOf(s.Config)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(c.File); err != nil && c.Strict {
		return nil, fmt.Errorf("%w: file: there is none: make it", rotation.ErrInvalid)
	}
	return nil, nil
}

func (tokenFile) Inspect(context.Context, rotation.Secret, preflight.Subject) preflight.Report {
	found := preflight.Report{}
	found.Expect(false, "token_file.backup", preflight.Warning, preflight.Fix{}, "nobody keeps a copy of the file")
	return found
}

func (t tokenFile) Verify(ctx context.Context, s rotation.Secret) ([]string, error) {
	return []string{"the file has the token"}, t.Probe(ctx, s, s.Current.Material)
}

func (tokenFile) Fields(_ rotation.Secret, v rotation.Material) (map[string]string, error) {
	return map[string]string{"token": v["token"]}, nil
}

func (tokenFile) PreviousFields(previous rotation.Material) map[string]string {
	return map[string]string{"previous_token": previous["token"]}
}

func (tokenFile) Digests(v rotation.Material) ([]secret.Digest, error) {
	return []secret.Digest{secret.DigestOf(v["token"])}, nil
}

func (tokenFile) Guesses(text string) []secret.Digest {
	return []secret.Digest{secret.DigestOf(text)}
}

func (tokenFile) CutsOver(rotation.Secret) bool       { return false }
func (tokenFile) OffersPrevious(rotation.Secret) bool { return true }

// TestOwnType goes with a type that is registered by one line, and known nowhere else,
// through all that can be done with a secret.
func TestOwnType(t *testing.T) {
	m := unbooted(t)
	m.types = func(p *postgres.Client, passwords secret.Passwords) map[string]secret.Type {
		types := registeredTypes(p, passwords)
		types["token_file"] = tokenFile{}
		return types
	}
	m.system.PluginEnvironment = &logical.PluginEnvironment{VaultVersion: "test"}
	m.boot()
	file := filepath.Join(t.TempDir(), "accepted")
	accepted := func(tokens ...any) {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range tokens {
			if !strings.Contains(string(text), token.(string)) {
				t.Error("the file does not have a token that is given out")
			}
		}
	}
	m.write("roles/r", d("overlap", "10m"))
	m.refused(logical.CreateOperation, "secrets/r/door", d("type", "token_file"), "file", "give the path")
	m.refused(logical.CreateOperation, "secrets/r/door", d("type", "token_file", "file", file, "charset", "abc"), "charset", "random", "token_file")
	m.refused(logical.CreateOperation, "secrets/r/door", d("type", "token_file", "file", file, "strict", true), "file", "make it")

	m.write("secrets/r/door", d("type", "token_file", "file", file))
	first := m.read("creds/r", nil)["door_token"]
	accepted(first)
	m.write("secrets/r/gate", d("type", "token_file", "file", file+".gate", "strict", false))
	m.delete("secrets/r/gate")
	if err := os.WriteFile(file+".yard", []byte("the-token-of-before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.write("secrets/r/yard", d("type", "token_file", "file", file+".yard", "skip_import_rotation", true, "token", "the-token-of-before"))
	if got := m.read("creds/r/yard", nil)["token"]; got != "the-token-of-before" {
		t.Error("what was imported is not what creds answers")
	}

	m.write("rotate/r", nil)
	rotated := m.read("creds/r", nil)
	if rotated["door_token"] == first || rotated["door_previous_token"] != first {
		t.Error("after a rotation creds does not answer another token, and the previous one")
	}
	accepted(first, rotated["door_token"])
	m.write("rollback/r", nil)
	if got := m.read("creds/r", nil)["door_token"]; got != first {
		t.Error("a rollback does not bring the token back")
	}
	m.write("rotate/r", nil)
	m.tick(11 * 60e9)
	m.overlapOver("door")

	if found := findings(m.read("verify/r", nil), "token_file.backup"); len(found) != 2 {
		t.Errorf("preflight has found %v, want what each of the two files lacks", found)
	}
	if read := m.read("secrets/r/door", nil); read["type"] != "token_file" || read["file"] != file {
		t.Errorf("its configuration is %v", read)
	}
	m.write("secrets/r/door", d("strict", true))
	if read := m.read("secrets/r/door", nil); read["strict"] != true {
		t.Errorf("its changed configuration is %v", read)
	}
	told := map[any]bool{}
	for _, line := range m.lines("history/r") {
		told[line["kind"]] = told[line["kind"]] || strings.Contains(fmt.Sprint(line), "token_file")
	}
	for _, kind := range []rotation.Kind{rotation.KindCreate, rotation.KindImport, rotation.KindRotate, rotation.KindRollback, rotation.KindRetire} {
		if !told[string(kind)] {
			t.Errorf("the history has no %s of the type", kind)
		}
	}
	m.described("file", "token_file: the file of accepted tokens.")
}

// described wants OpenAPI to tell a field of secrets.
func (m *mount) described(name, help string) {
	m.Helper()
	resp, err := m.b.HandleRequest(m.Context(), &logical.Request{Operation: logical.HelpOperation, Path: "", Storage: m.storage})
	if err != nil {
		m.Fatal(err)
	}
	document, err := json.Marshal(resp.Data["openapi"])
	if err != nil {
		m.Fatal(err)
	}
	if !strings.Contains(string(document), fmt.Sprintf("%q:{", name)) || !strings.Contains(string(document), help) {
		m.Errorf("OpenAPI does not tell of %s", name)
	}
}
