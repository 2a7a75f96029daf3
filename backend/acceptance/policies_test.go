package acceptance

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// The shipped policies. orders is the application's, made for the role orders as
// its comment says; personal is the one for all applications, of an entity whose
// metadata names the role orders.
const (
	application = "application"
	orders      = "orders"
	personal    = "personal"
	admin       = "administrator"
	operator    = "operator"
	auditor     = "auditor"
	installer   = "installer"
	verifying   = "verifier"
	monitoring  = "monitoring"
	responder   = "responder"
)

// everybody is who may read what takes no token at all.
var everybody = []string{application, orders, personal, admin, operator, auditor, installer, verifying, monitoring, responder}

// access is what may be done by whom; nobody else may.
type access struct {
	method, path string
	by           []string
}

// accesses has every operation of the engine, for the role default and another,
// in an order in which each finds what it needs.
var accesses = []access{
	{http.MethodGet, "creds", []string{application}},
	{http.MethodGet, "creds/default", []string{application}},
	{http.MethodGet, "creds/default?stage=previous", []string{application}},
	{http.MethodGet, "creds/default/jwt", []string{application}},
	{http.MethodGet, "creds/orders", []string{orders, personal}},
	{http.MethodGet, "creds/orders/jwt", []string{orders}},
	{http.MethodGet, "creds/", nil},
	{http.MethodGet, "creds/default/jwt/x", nil},
	{http.MethodGet, "creds/defaultx", nil},
	{http.MethodGet, "config", []string{admin, operator, auditor, installer}},
	{http.MethodPost, "config", []string{admin}},
	{http.MethodDelete, "config", []string{admin}},
	{http.MethodGet, "config/history", []string{admin, operator, auditor}},
	{http.MethodGet, "config/history?format=jsonl", []string{admin, operator, auditor}},
	{list, "config/history/", []string{admin, operator, auditor}},
	{http.MethodGet, "config/history/x", []string{admin, operator, auditor}},
	{http.MethodPost, "config/history/x/note", []string{admin}},
	{list, "connections/", []string{admin, operator, auditor}},
	{http.MethodPost, "connections/main", []string{admin}},
	{http.MethodGet, "connections/main", []string{admin, operator, auditor}},
	{http.MethodGet, "connections/main/history", []string{admin, operator, auditor}},
	{http.MethodGet, "connections/main/history?format=jsonl", []string{admin, operator, auditor}},
	{list, "connections/main/history/", []string{admin, operator, auditor}},
	{http.MethodGet, "connections/main/history/x", []string{admin, operator, auditor}},
	{http.MethodPost, "connections/main/history/x/note", []string{admin, operator}},
	{http.MethodPost, "rotate-root/main", []string{admin, operator}},
	{http.MethodDelete, "connections/main", []string{admin}},
	{list, "roles/", []string{admin, operator, auditor}},
	{http.MethodPost, "roles/default", []string{operator}},
	{http.MethodGet, "roles/default", []string{admin, operator, auditor}},
	{list, "secrets/default/", []string{admin, operator, auditor}},
	{http.MethodPost, "secrets/default/new", []string{operator}},
	{http.MethodGet, "secrets/default/jwt", []string{admin, operator, auditor}},
	{http.MethodPost, "checks/default/health", []string{operator}},
	{http.MethodGet, "checks/default/health", []string{operator, auditor}},
	{list, "checks/default/", []string{operator, auditor}},
	{http.MethodDelete, "checks/default/health", []string{operator}},
	{http.MethodPost, "alerts/ops", []string{operator}},
	{http.MethodPost, "alerts/ops/test", []string{operator}},
	{http.MethodGet, "alerts/ops", []string{operator, auditor}},
	{list, "alerts/", []string{operator, auditor}},
	{http.MethodDelete, "alerts/ops", []string{operator}},
	{http.MethodPost, "destinations/kv", []string{admin}},
	{http.MethodGet, "destinations/kv", []string{admin, operator, auditor}},
	{list, "destinations/", []string{admin, operator, auditor}},
	{http.MethodDelete, "destinations/kv", []string{admin}},
	{http.MethodGet, "metrics", []string{operator, auditor, monitoring}},
	{http.MethodPost, "rotate", []string{operator}},
	{http.MethodPost, "rotate/orders", []string{operator}},
	{http.MethodPost, "rollback", []string{operator}},
	{http.MethodPost, "rollback/orders", []string{operator}},
	{http.MethodPost, "retire", []string{operator}},
	{http.MethodPost, "retire/orders", []string{operator}},
	{http.MethodPost, "api-key/default/api/verify", []string{verifying}},
	{http.MethodPost, "api-key/orders/api/verify", nil},
	{http.MethodPost, "api-key/default/api/verify/x", nil},
	{http.MethodPost, "leaked", []string{responder}},
	{http.MethodGet, "verify", []string{operator}},
	{http.MethodPost, "verify", []string{operator}},
	{http.MethodGet, "verify/orders", []string{operator}},
	{http.MethodPost, "verify/orders", []string{operator}},
	{http.MethodPost, "jwt/default/jwt/sign", []string{application}},
	{http.MethodPost, "jwt/orders/jwt/sign", []string{orders}},
	{http.MethodPost, "jwt/default/jwt/verify", []string{application}},
	{http.MethodPost, "jwt/orders/jwt/verify", []string{orders}},
	{http.MethodGet, "jwks/default/jwt", everybody},
	{http.MethodGet, "jwks/default/jwt/.well-known/openid-configuration", everybody},
	{http.MethodGet, "status", []string{admin, operator, auditor}},
	{http.MethodGet, "status/orders", []string{admin, operator, auditor}},
	{list, "history/", []string{admin, operator, auditor}},
	{http.MethodGet, "history/default", []string{admin, operator, auditor}},
	{http.MethodGet, "history/default?format=jsonl", []string{admin, operator, auditor}},
	{list, "history/orders/", []string{admin, operator, auditor}},
	{http.MethodGet, "history/orders/x", []string{admin, operator, auditor}},
	{http.MethodPost, "history/orders/x/note", []string{operator}},
	{http.MethodDelete, "secrets/default/jwt", []string{operator}},
	{http.MethodDelete, "roles/orders", []string{operator}},
}

// TestPolicies sends every operation with a real token under each shipped policy:
// an application reads its own values, an auditor and an operator read none.
func TestPolicies(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.path = "smvm" // the policies say so
	if err := e.vault.Enable(t.Context(), e.path, ""); err != nil {
		t.Fatal(err)
	}
	e.covers(accesses)
	for _, role := range []string{"default", "orders"} {
		e.write("roles/"+role, nil)
		e.write("secrets/"+role+"/jwt", map[string]any{"type": "jwt"})
		e.write("rotate/"+role, nil)
		e.read("creds/" + role)
	}
	tokens := e.tokens()
	for _, a := range accesses {
		// Whoever is refused comes first: the others may delete what it is about.
		for _, allowed := range []bool{false, true} {
			for name, token := range tokens {
				if allowed == slices.Contains(a.by, name) {
					e.tries(a, name, token, allowed)
				}
			}
		}
	}
}

// TestNoPolicyHashesGuesses asks Vault under each shipped policy for a hash as the audit
// log has it. With that and the log, a guess at a weak value could be confirmed.
func TestNoPolicyHashesGuesses(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	r := e.raw()
	r.url = e.client.Address() + "/v1"
	guess := map[string]any{"input": "guess"}
	if answer := r.do(http.MethodPost, "sys/audit-hash/file", guess); answer.status != http.StatusOK {
		t.Fatalf("root gets no hash: %d: %s", answer.status, answer.cause())
	}
	for _, name := range e.policies() {
		policy := name + "-" + e.prefix
		if err := e.vault.Client.Sys().PutPolicyWithContext(t.Context(), "smvm-"+policy, e.policy(name)); err != nil {
			t.Fatal(err)
		}
		r.token = e.token(policy)
		remember(r.token)
		if answer := r.do(http.MethodPost, "sys/audit-hash/file", guess); answer.status != http.StatusForbidden {
			t.Errorf("the %s gets a hash: %d", name, answer.status)
		}
	}
}

// policies are the names of all shipped policies.
func (e *engine) policies() (names []string) {
	e.Helper()
	root, err := testenv.Root()
	if err != nil {
		e.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "bootstrap", "install", "policies", "*.hcl"))
	if err != nil || len(files) == 0 {
		e.Fatalf("there are no policies: %v", err)
	}
	for _, file := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".hcl"))
	}
	return names
}

// tries sends one operation: refused means 403 and nothing else.
func (e *engine) tries(a access, name, token string, allowed bool) {
	e.Helper()
	r := e.raw()
	r.token = token
	method, path := a.method, a.path
	if method == list {
		method, path = http.MethodGet, path+"?list=true"
	}
	var data map[string]any
	if method == http.MethodPost {
		data = map[string]any{}
	}
	answer := r.do(method, path, data)
	if permitted := answer.status != http.StatusForbidden; permitted != allowed {
		e.Errorf("%s %s by the %s is permitted: %t, want %t (%d: %s)", a.method, a.path, name, permitted, allowed, answer.status, answer.cause())
	}
	if allowed && isCreds("/"+a.path) && answer.status != http.StatusOK {
		e.Errorf("%s %s by the %s: %d: %s", a.method, a.path, name, answer.status, answer.cause())
	}
}

// covers fails the test for operations of the engine that a table does not have.
func (e *engine) covers(table []access) {
	e.Helper()
	placeholder := regexp.MustCompile(`\\\{[a-z_]+\\\}`)
	for _, at := range e.endpoints() {
		pattern := regexp.MustCompile("^" + placeholder.ReplaceAllString(regexp.QuoteMeta(at.path), "[a-z]+") + "$")
		found := false
		for _, a := range table {
			found = found || a.method == at.method && pattern.MatchString(a.path)
		}
		if !found {
			e.Errorf("who may %s %s? Add it to accesses", at.method, at.path)
		}
	}
}

// tokens writes the policies as docs/operations.md does, and logs in under each.
func (e *engine) tokens() map[string]string {
	e.Helper()
	policies := map[string]string{}
	for _, name := range []string{application, admin, operator, auditor, installer, verifying, monitoring, responder} {
		policies[name] = e.policy(name)
	}
	policies[orders] = e.sed(policies[application], `/^path "smvm\/creds" {/,/^}/d`, "s/default/orders/")
	policies[personal] = e.sed(policies[application], `1,/metadata=smvm_role/d`, `/^#   [pc ]/!{/^#   }/!d}`, "s/^# *//")
	tokens := map[string]string{}
	for name, text := range policies {
		if err := e.vault.Client.Sys().PutPolicyWithContext(e.Context(), "smvm-"+name, text); err != nil {
			e.Fatalf("policy %s: %v\n%s", name, err, text)
		}
		tokens[name] = e.token(name)
		remember(tokens[name])
	}
	return tokens
}

func (e *engine) policy(name string) string {
	e.Helper()
	root, err := testenv.Root()
	if err != nil {
		e.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "bootstrap", "install", "policies", name+".hcl"))
	if err != nil {
		e.Fatal(err)
	}
	return string(text)
}

// sed edits a policy as its comment says.
func (e *engine) sed(text string, commands ...string) string {
	e.Helper()
	var args []string
	for _, command := range commands {
		args = append(args, "-e", command)
	}
	cmd := exec.CommandContext(e.Context(), "sed", args...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		e.Fatal(err)
	}
	return string(out)
}

// token makes a token for a policy; the personal one by logging in as an entity
// whose metadata names its role.
func (e *engine) token(name string) string {
	e.Helper()
	client := e.vault.Client
	if name != personal {
		secret, err := client.Auth().Token().CreateWithContext(e.Context(), &api.TokenCreateRequest{Policies: []string{"smvm-" + name}, NoParent: true})
		if err != nil {
			e.Fatal(err)
		}
		return secret.Auth.ClientToken
	}
	if err := client.Sys().EnableAuthWithOptionsWithContext(e.Context(), "people", &api.EnableAuthOptions{Type: "userpass"}); err != nil {
		e.Fatal(err)
	}
	const password = "somebody-0123456789"
	remember(password)
	call := func(path string, data map[string]any) *api.Secret {
		answer, err := client.Logical().WriteWithContext(e.Context(), path, data)
		if err != nil {
			e.Fatal(err)
		}
		return answer
	}
	call("auth/people/users/somebody", map[string]any{"password": password, "token_policies": "smvm-" + personal})
	login := call("auth/people/login/somebody", map[string]any{"password": password})
	call("identity/entity/id/"+login.Auth.EntityID, map[string]any{"metadata": map[string]string{"smvm_role": "orders"}})
	return login.Auth.ClientToken
}
