package acceptance

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// enroll runs enroll.sh with a token, and returns what it says.
func (e *engine) enroll(token string, args ...string) (string, error) {
	e.Helper()
	out, err := e.enrolling(token, args...).CombinedOutput()
	return string(out), err
}

// enrolling is enroll.sh with a token, not started yet.
func (e *engine) enrolling(token string, args ...string) *exec.Cmd {
	e.Helper()
	root, err := testenv.Root()
	if err != nil {
		e.Fatal(err)
	}
	cmd := exec.CommandContext(e.Context(), filepath.Join(root, "bootstrap/apps/agent/enroll.sh"), append([]string{"-path", e.path}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(e.vault.Binary)+":"+os.Getenv("PATH"), "VAULT_ADDR="+e.vault.Address, "VAULT_TOKEN="+token)
	return cmd
}

// tokenFor makes a token for a policy of this test.
func (e *engine) tokenFor(name, policy string) string {
	e.Helper()
	if err := e.vault.Client.Sys().PutPolicyWithContext(e.Context(), name, policy); err != nil {
		e.Fatal(err)
	}
	made, err := e.vault.Client.Auth().Token().CreateWithContext(e.Context(), &api.TokenCreateRequest{Policies: []string{name}, NoParent: true})
	if err != nil {
		e.Fatal(err)
	}
	remember(made.Auth.ClientToken)
	return made.Auth.ClientToken
}

// TestEnrollRefuses names a role and a user that there are not. What an earlier run has
// made stays as it is, in Vault and here. It does all of this with a token that may do
// what enroll.sh -help says, and nothing else.
func TestEnrollRefuses(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", nil)
	e.approle() // which also enables AppRole
	dir := t.TempDir()
	token := e.tokenFor(e.path+"-enroller", e.policyOfHelp("default", givesLogin, andRotates))
	if said, err := e.enroll(token, "-name", e.path, "-instance", enrolledAs, "-dir", dir, "default"); err != nil || !strings.Contains(said, "has no secret jwt. For the Agent kit, run install.sh -jwt NAME, or -jwt '' if") {
		t.Fatalf("with the rights that -help lists: %v: %s", err, said)
	}
	before := e.enrolled(dir)
	misspelt := e.tokenFor(e.path+"-misspeller", e.policyOfHelp("defualt", givesLogin, andRotates))
	operates := e.tokenFor(e.path+"-operator", strings.ReplaceAll(e.policy(operator), "smvm/", e.path+"/"))
	withoutPolicies := e.tokenFor(e.path+"-no-policies", strings.ReplaceAll(e.policyOfHelp("default", givesLogin, andRotates), "sys/policies", "sys/others"))
	for _, test := range []struct {
		token string
		args  []string
		want  string
	}{
		{token, []string{"-dir", t.TempDir(), "default"}, "there is a login of the AppRole " + e.path + "-" + enrolledAs + " already, and it is not the one in"},
		{token, []string{"-rotate", "-dir", t.TempDir(), "default"}, "is not of the AppRole " + e.path + "-" + enrolledAs},
		{misspelt, []string{"defualt"}, "there is no role 'defualt' in " + e.path + "/; this lists all: vault list " + e.path + "/roles. Nothing was changed"},
		{token, []string{"defualt"}, "can't read the role 'defualt'. Nothing was changed"},
		{operates, []string{"default"}, "VAULT_TOKEN may not read auth/approle/role/" + e.path + "-" + enrolledAs + "/role-id, or there is no such path (403, permission denied). enroll.sh -help lists what the token needs\n"},
		{withoutPolicies, []string{"default"}, "VAULT_TOKEN may not write sys/policies/acl/" + e.path + ", or there is no such path"},
		{operates, []string{"-list", "default"}, "VAULT_TOKEN may not list auth/approle/role, or there is no such path"},
		{"hvs.of-another-vault", []string{"default"}, "VAULT_TOKEN has expired, or is of another Vault"},
		{token, []string{"-owner", "no-such-user", "default"}, "there is no user 'no-such-user' on this machine. Make one, such as by: useradd -r no-such-user. Nothing was changed"},
		{token, []string{"-bound", "127.0.0.0/8,10.0.0.7", "default"}, "has to be networks, separated by commas. A single address is one with /32, such as 10.0.0.7/32. Nothing was changed"},
	} {
		said, err := e.enroll(test.token, append([]string{"-name", e.path, "-instance", enrolledAs, "-dir", dir}, test.args...)...)
		if err == nil || !strings.Contains(said, test.want) || strings.Contains(said, "URL:") {
			t.Errorf("%v: %v, it says %q, want %q", test.args, err, said, test.want)
		}
		if after := e.enrolled(dir); after != before {
			t.Errorf("%v: there was\n%s\nand now is\n%s", test.args, before, after)
		}
	}
}

// enrolledAs is what the tests call the instance that is enrolled.
const enrolledAs = "web-1.example"

// The lists of rights in enroll.sh -help, by what is before them.
const (
	givesLogin = "VAULT_TOKEN needs, to give a login:"
	andRotates = "To give a login, and for -rotate:"
	lists      = "For -list:"
)

// policyOfHelp allows what enroll.sh -help says that it needs.
func (e *engine) policyOfHelp(role string, needs ...string) string {
	e.Helper()
	help, err := e.enroll("", "-help")
	if err != nil {
		e.Fatal(err)
	}
	places := strings.NewReplacer("PATH", e.path, "ROLE", role, "NAME-INSTANCE", e.path+"-"+enrolledAs, "NAME", e.path)
	var policy strings.Builder
	for _, need := range needs {
		_, table, found := strings.Cut(help, need+"\n\n")
		if !found {
			e.Fatalf("enroll.sh -help does not say: %s", need)
		}
		table, _, _ = strings.Cut(table, "\n\n")
		for line := range strings.Lines(places.Replace(table)) {
			path, capabilities, _ := strings.Cut(strings.TrimSpace(line), "  ")
			fmt.Fprintf(&policy, "path %q { capabilities = [\"%s\"] }\n", path, strings.ReplaceAll(strings.TrimSpace(capabilities), ", ", `", "`))
		}
	}
	return policy.String()
}

// enrolled is all that enroll.sh makes: the policy, the AppRole with its secret ids, and
// the files.
func (e *engine) enrolled(dir string) string {
	e.Helper()
	policy, err := e.vault.Client.Sys().GetPolicyWithContext(e.Context(), e.path)
	if err != nil {
		e.Fatal(err)
	}
	role, err := e.vault.Client.Logical().ReadWithContext(e.Context(), "auth/approle/role/"+e.path+"-"+enrolledAs)
	if err != nil {
		e.Fatal(err)
	}
	ids, err := e.vault.Client.Logical().ListWithContext(e.Context(), "auth/approle/role/"+e.path+"-"+enrolledAs+"/secret-id")
	if err != nil {
		e.Fatal(err)
	}
	found := fmt.Sprintf("%s\n%v\n%v\n", policy, role.Data, ids.Data)
	for _, name := range []string{"role_id", "secret_id"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			e.Fatal(err)
		}
		found += fmt.Sprintf("%s of %s\n", name, info.ModTime())
	}
	return found
}

// TestTesterPolicy tries every operation of the engine with the login of enroll.sh
// -tests: all that it may do is to roll back a version, and it has to say which, and why.
func TestTesterPolicy(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for _, role := range []string{"shop", "other"} {
		e.write("roles/"+role, nil)
		e.write("secrets/"+role+"/pin", map[string]any{"type": "random"})
		e.write("rotate/"+role, nil)
	}
	dir := t.TempDir()
	if said, err := e.enroll(e.vault.RootToken, "-tests", "-name", e.path+"-tester", "-dir", dir, "shop"); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	r := e.raw()
	r.token = e.logsIn(dir)
	for _, at := range e.endpoints() {
		if strings.HasPrefix(at.path, "jwks/") {
			continue // for everybody
		}
		for _, role := range []string{"shop", "other"} {
			method, path := at.method, strings.NewReplacer("{role}", role, "{name}", "pin", "{secret}", "pin", "{id}", "x").Replace(at.path)
			if method == list {
				method, path = http.MethodGet, path+"?list=true"
			}
			var data map[string]any
			if method == http.MethodPost {
				data = map[string]any{"if_version": 2, "reason": "tests"}
			}
			if answer := r.do(method, path, data); (answer.status != http.StatusForbidden) != (method+" "+path == "POST rollback/shop") {
				t.Errorf("%s %s: %d: %s", method, path, answer.status, answer.cause())
			}
		}
	}
	if version := number(t, e.read("creds/shop"), "version"); version != 3 {
		t.Errorf("after the rollback, the version is %d", version)
	}
	for _, data := range []map[string]any{
		{}, {"if_version": 3}, {"reason": "tests"}, {"if_version": 3, "reason": "tests", "revoke_previous": true}, {"if_version": 3, "reason": "tests", "secrets": "pin"},
	} {
		if answer := r.do(http.MethodPost, "rollback/shop", data); answer.status != http.StatusForbidden {
			t.Errorf("%v: %d: %s", data, answer.status, answer.cause())
		}
	}
	if answer := r.do(http.MethodPost, "rollback/shop", map[string]any{"if_version": 3, "reason": "tests"}); answer.status != badRequest {
		t.Errorf("a rollback of a rollback: %d: %s", answer.status, answer.cause())
	}
	r.url = e.client.Address() + "/v1"
	for _, path := range []string{"auth/token/lookup-self", "cubbyhole/x", "sys/mounts", "sys/policies/acl"} {
		if answer := r.do(http.MethodGet, path, nil); answer.status != http.StatusForbidden {
			t.Errorf("%s: %d: %s", path, answer.status, answer.cause())
		}
	}
}

// logsIn returns a token of the login in a directory.
func (e *engine) logsIn(dir string) string {
	e.Helper()
	login := map[string]any{}
	for _, name := range []string{"role_id", "secret_id"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			e.Fatal(err)
		}
		login[name] = strings.TrimSpace(string(text))
	}
	remember(login["secret_id"].(string))
	made, err := e.vault.Client.Logical().WriteWithContext(e.Context(), "auth/approle/login", login)
	if err != nil {
		e.Fatal(err)
	}
	remember(made.Auth.ClientToken)
	return made.Auth.ClientToken
}
