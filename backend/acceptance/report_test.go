package acceptance

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// auditing is an auditor of one engine, with a token of the shipped policy, and
// the shipped command.
type auditing struct {
	*engine
	token, command string
}

func newAuditing(e *engine) *auditing {
	e.Helper()
	name := "auditor-" + e.prefix
	if err := e.vault.Client.Sys().PutPolicyWithContext(e.Context(), name, strings.ReplaceAll(e.policy(auditor), `"smvm/`, `"`+e.path+"/")); err != nil {
		e.Fatal(err)
	}
	token, err := e.vault.Client.Auth().Token().CreateWithContext(e.Context(), &api.TokenCreateRequest{Policies: []string{name}, NoParent: true})
	if err != nil {
		e.Fatal(err)
	}
	remember(token.Auth.ClientToken)
	command, err := testenv.BuildCommand(e.Context(), "smvm-report", testenv.BuildOptions{Race: true})
	if err != nil {
		e.Fatal(err)
	}
	return &auditing{e, token.Auth.ClientToken, command}
}

// run runs smvm-report, and returns what it said.
func (a *auditing) run(token string, args ...string) (string, error) {
	cmd := exec.CommandContext(a.Context(), a.command, args...)
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+a.vault.Address, "VAULT_TOKEN="+token)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestReport has an auditor write the report of an engine that things happened to:
// all of it is there, and none of the values.
func TestReport(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("config", map[string]any{"environment": "acceptance"})
	e.orders("alternating_users", map[string]any{"rotation_period": "30d"})
	e.write("rotate-root/main", nil)
	rotated := e.write("rotate", map[string]any{"reason": "the quarterly one"})
	e.write("history/default/"+text(rotated, "rotation_id")+"/note", map[string]any{"text": "agreed with <payments>", "ticket": "OPS-12"})
	e.write("rollback", map[string]any{"reason": "a release <misbehaves>", "secrets": "jwt"})
	e.write("secrets/default/db", map[string]any{"verification_statements": "SELECT nothing_there"})
	e.refused(unprocessable, "rotate", map[string]any{"reason": "cannot work"})
	e.write("roles/byhand", map[string]any{"auto_rotate": false})
	e.write("secrets/byhand/key", map[string]any{"type": "api_key"})
	e.write("roles/gone", nil)
	e.write("secrets/gone/key", map[string]any{"type": "api_key"})
	for _, path := range []string{"secrets/gone/key", "roles/gone"} {
		if answer := e.raw().do(http.MethodDelete, path, nil); answer.status >= http.StatusBadRequest {
			t.Fatalf("%s is not deleted: %s", path, answer.cause())
		}
	}
	e.creds()
	e.read("creds/byhand")
	a := newAuditing(e)
	path := filepath.Join(t.TempDir(), "report.html")
	if out, err := a.run(a.token, "-mount", e.path, "-out", path, "-since", "12h"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	report, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"acceptance", "default / <b>db</b>", "byhand / <b>key</b>", "connection main / <b>admin</b>", "every 30 d", "brought back by a rollback", "never rotated",
		"the quarterly one", "ticket OPS-12: agreed with &lt;payments&gt;", "a release &lt;misbehaves&gt;", "rolled back", "cannot work", "undefined_column", "within policy", "1 rotation, 1 rollback, 1 failure", "deleted role gone", "5 of 5",
		"1 of 1 reader current",
	} {
		if !strings.Contains(string(report), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	for _, wrong := range newScanner().report("the report", report) {
		t.Error(wrong)
	}
	if out, err := a.run("no-such-token", "-mount", e.path, "-out", path+"2"); err == nil || !strings.Contains(out, "auditor.hcl") {
		t.Errorf("without a token that may, it says %v: %s", err, out)
	}
	if _, err := os.Stat(path + "2"); err == nil {
		t.Error("it left a report that it could not make")
	}
}

// TestExportIsVerifiedOffline reads a history as an auditor, verifies it without Vault,
// and finds what was changed and what is missing.
func TestExportIsVerifiedOffline(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", nil)
	e.write("secrets/default/jwt", map[string]any{"type": "jwt"})
	for _, reason := range []string{"one", "two <&>", "three\u2028"} {
		rotated := e.write("rotate", map[string]any{"reason": reason})
		e.write("history/default/"+text(rotated, "rotation_id")+"/note", map[string]any{"text": "it was for " + reason})
	}
	e.creds()
	a := newAuditing(e)
	r := e.raw()
	r.token = a.token
	export := r.do(http.MethodGet, "history/default?format=jsonl", nil)
	if end := r.do(http.MethodGet, "history/default?format=jsonl&after=8", nil); export.status != http.StatusOK || end.status != http.StatusOK || len(end.body) != 0 {
		t.Fatalf("the export is %d, and its end %d: %s", export.status, end.status, end.body)
	}
	path := filepath.Join(t.TempDir(), "default.jsonl")
	if err := os.WriteFile(path, export.body, 0o600); err != nil {
		t.Fatal(err)
	}
	head := text(e.read("history/default"), "head_hash")
	if out, err := a.run("", "-verify", path); err != nil || !strings.Contains(out, "entries 1 to 8 are intact") || !strings.Contains(out, "head_hash "+head) {
		t.Errorf("%v: %s, want the head %s", err, out, head)
	}
	part := r.do(http.MethodGet, "history/default?format=jsonl&limit=3", nil)
	cut := filepath.Join(t.TempDir(), "cut.jsonl")
	if err := os.WriteFile(cut, part.body, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := a.run("", "-verify", cut, "-head", head); err == nil || !strings.Contains(out, "it ends with entry 3") {
		t.Errorf("one answer, which is not all: %v: %s", err, out)
	}
	if out, err := a.run("", "-verify", path, "-head", head); err != nil {
		t.Errorf("all of it: %v: %s", err, out)
	}
	for _, wrong := range newScanner().report("the export", export.body) {
		t.Error(wrong)
	}
	for entry, forge := range map[string]*strings.Replacer{
		"entry 3": strings.NewReplacer(`\"reason\":\"one\"`, `\"reason\":\"two\"`, `"reason":"one"`, `"reason":"two"`),
		"entry 4": strings.NewReplacer("it was for one", "it was for two"),
	} {
		if err := os.WriteFile(path, []byte(forge.Replace(string(export.body))), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := a.run("", "-verify", path); err == nil || !strings.Contains(out, entry+" was changed") {
			t.Errorf("a changed export: %v: %s", err, out)
		}
	}
}
