package backend

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// TestEveryPathIsDescribed is about what OpenAPI and vault path-help show.
func TestEveryPathIsDescribed(t *testing.T) {
	m := newMount(t)
	for _, p := range m.b.Paths {
		if p.HelpSynopsis == "" || p.HelpDescription == "" {
			t.Errorf("%s has no help", p.Pattern)
		}
		if p.DisplayAttrs == nil || p.DisplayAttrs.OperationPrefix != "smvm" || p.DisplayAttrs.OperationSuffix == "" {
			t.Errorf("%s does not name its operations", p.Pattern)
		}
		for name, f := range p.Fields {
			if f.Description == "" {
				t.Errorf("%s does not describe %s", p.Pattern, name)
			}
		}
		if _, creates := p.Operations[logical.CreateOperation]; creates != (p.ExistenceCheck != nil) {
			t.Errorf("%s creates: %v, and has an existence check: %v", p.Pattern, creates, !creates)
		}
		for op, handler := range p.Operations {
			describedOperation(t, fmt.Sprint(op, " ", p.Pattern), op, handler.Properties())
		}
	}
}

func describedOperation(t *testing.T, where string, op logical.Operation, p framework.OperationProperties) {
	t.Helper()
	if p.Summary == "" || len(p.Responses) == 0 {
		t.Errorf("%s has no summary or no responses", where)
	}
	// To sign and to verify changes nothing, so any node may do it.
	uses := strings.Contains(where, " jwt/") || strings.Contains(where, " api-key/")
	mutates := op != logical.ReadOperation && op != logical.HeaderOperation && op != logical.ListOperation && !uses
	if p.ForwardPerformanceStandby != mutates || p.ForwardPerformanceSecondary != mutates {
		t.Errorf("%s changes something: %v, and is forwarded: %v", where, mutates, p.ForwardPerformanceStandby)
	}
	if !mutates && len(p.Responses[200]) == 0 {
		t.Errorf("%s reads and declares no answer", where)
	}
	for _, declared := range p.Responses[200] {
		for name, f := range declared.Fields {
			if f.Description == "" {
				t.Errorf("%s does not describe the answer's %s", where, name)
			}
		}
	}
}

// TestEveryPath uses every operation of every path: as it is meant, and then with
// a field that it does not have.
func TestEveryPath(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	users := s.pair()
	const create, update, read, list, remove = logical.CreateOperation, logical.UpdateOperation, logical.ReadOperation, logical.ListOperation, logical.DeleteOperation
	other := s.described()
	steps := []struct {
		op   logical.Operation
		path string
		data map[string]any
	}{
		{update, "config", d("environment", "test", "rotation_period", "24h", "outbound_hosts", "127.0.0.1")},
		{read, "config", nil},
		{remove, "config", nil},
		{update, "config", d("environment", "test", "rotation_period", "24h", "outbound_hosts", "127.0.0.1")},
		{read, "config/history", nil},
		{read, "config/history", d("format", "jsonl")},
		{list, "config/history", nil},
		{read, "config/history/ID", nil},
		{read, "config/history/ID", d("format", "markdown")},
		{update, "config/history/ID/note", d("text", "agreed", "ticket", "OPS-1")},
		{create, "connections/other", other},
		{update, "connections/other", d("max_open_connections", 2)},
		{read, "connections/other", nil},
		{list, "connections", nil},
		{create, "roles/default", d("rotation_period", "1h")},
		{update, "roles/default", d("overlap", "20m")},
		{read, "roles/default", nil},
		{list, "roles", nil},
		{create, "secrets/default/db", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", users)},
		{create, "secrets/default/jwt", d("type", "jwt")},
		{create, "secrets/default/key", d("type", "api_key", "prefix", "orders")},
		{create, "secrets/default/pin", d("type", "random", "length", 40)},
		{update, "secrets/default/pin", d("length", 50)},
		{read, "secrets/default/db", nil},
		{read, "secrets/default/pin", nil},
		{list, "secrets/default", nil},
		{create, "checks/default/health", d("url", "http://127.0.0.1:1/", "on_failure", "alert")},
		{update, "checks/default/health", d("attempts", 1)},
		{read, "checks/default/health", nil},
		{list, "checks/default", nil},
		{remove, "checks/default/health", nil},
		{create, "alerts/ops", d("type", "webhook", "url", newReceiver(t).URL+"/hook")},
		{update, "alerts/ops", d("notice", "48h")},
		{read, "alerts/ops", nil},
		{list, "alerts", nil},
		{update, "alerts/ops/test", nil},
		{remove, "alerts/ops", nil},
		{create, "destinations/aws", m.inAWS(testenv.NewSecretsManager(t), "values", "pin={{pin_value}}")},
		{update, "destinations/aws", d("required", true)},
		{update, "roles/default", d("destinations", "aws")},
		{read, "destinations/aws", nil},
		{list, "destinations", nil},
		{read, "status", nil},
		{update, "roles/default", d("destinations", "")},
		{remove, "destinations/aws", nil},
		{update, "rotate", d("dry_run", true)},
		{update, "rotate", d("reason", "test")},
		{update, "rotate/default", d("secrets", "jwt,pin", "wait", "10s")},
		{read, "creds", nil},
		{read, "creds/default", d("stage", "previous")},
		{read, "creds/default/db", nil},
		{read, "creds/default/jwt", d("if_version", "1")},
		{create, "secrets/default/pair", d("type", "jwt", "algorithm", "EdDSA", "issuer", "https://vault.example/v1/smvm/jwks/default/pair")},
		{update, "jwt/default/pair/sign", d("claims", d("sub", "orders"), "ttl", "1m")},
		{update, "jwt/default/pair/verify", d("token", "x.y.z")},
		{read, "jwks/default/pair", nil},
		{read, "jwks/default/pair/.well-known/openid-configuration", nil},
		{logical.HeaderOperation, "jwks/default/pair", nil},
		{logical.HeaderOperation, "jwks/default/pair/.well-known/openid-configuration", nil},
		{update, "api-key/default/key/verify", d("key", "smvm_not-this-one")},
		{update, "leaked", d("value", "never-a-value", "respond", true)},
		{update, "retire/default", d("secrets", "pin", "reason", "everybody has read", "wait", "10s")},
		{update, "rollback", d("secrets", "db,jwt")},
		{update, "rollback/default", d("secrets", "db", "revoke_previous", true)},
		{update, "retire", d("force", true)},
		{read, "verify", nil},
		{read, "verify/default", d("secrets", "jwt")},
		{update, "verify", d("repair", true)},
		{update, "verify/default", d("repair", true, "secrets", "db", "reason", "restored")},
		{read, "status", nil},
		{read, "status/default", nil},
		{update, "rotate-root/other", nil},
		{read, "connections/other/history", nil},
		{read, "connections/other/history", d("format", "jsonl")},
		{list, "connections/other/history", nil},
		{read, "connections/other/history/ID", nil},
		{update, "connections/other/history/ID/note", d("text", "agreed")},
		{list, "history", nil},
		{read, "history/default", nil},
		{read, "history/default", d("format", "jsonl", "after", 1, "limit", 2)},
		{list, "history/default", nil},
		{read, "history/default/ID", nil},
		{read, "history/default/ID", d("format", "markdown")},
		{update, "history/default/ID/note", d("text", "agreed", "kind", "next_step")},
		{read, "metrics", nil},
		{remove, "secrets/default/db", nil},
		{remove, "secrets/default/jwt", nil},
		{remove, "secrets/default/key", nil},
		{remove, "secrets/default/pin", nil},
		{remove, "secrets/default/pair", nil},
		{remove, "roles/default", nil},
		{remove, "connections/main", nil},
	}
	used := map[string]bool{}
	for _, step := range steps {
		path := m.record(step.path)
		m.unknownField(step.op, path, step.data)
		used[fmt.Sprint(step.op, " ", m.b.Route(path).Pattern)] = true
		req := m.request(step.op, path, step.data)
		if req.Operation != step.op {
			t.Errorf("%s is not a %s but a %s", path, step.op, req.Operation)
		}
		if data := m.must(m.send(req)); step.op == read && len(data) == 0 {
			t.Errorf("%s %s answers nothing", step.op, path)
		}
		if step.data["destinations"] == "aws" {
			m.recorded("") // what is published meanwhile is no change of the next request
		}
	}
	for _, p := range m.b.Paths {
		for op := range p.Operations {
			if !used[fmt.Sprint(op, " ", p.Pattern)] {
				t.Errorf("%s %s is not tested", op, p.Pattern)
			}
		}
	}
}

// record puts the id of the newest record in place of ID.
func (m *mount) record(path string) string {
	m.Helper()
	before, after, found := strings.Cut(path, "/ID")
	if !found {
		return path
	}
	ids := m.list(before)
	return before + "/" + ids[len(ids)-1] + after
}

// unknownField sends the request with a field too many.
func (m *mount) unknownField(op logical.Operation, path string, data map[string]any) {
	m.Helper()
	more := d("nonsense", 1)
	for name, value := range data {
		more[name] = value
	}
	if strings.HasPrefix(path, "jwks/") { // whose readers may add to the address what they like
		m.must(m.try(op, path, more))
		return
	}
	words := []string{"nonsense", "is not a field of this path", "it has: "}
	m.refused(op, path, more, append(words, fieldNames(m.b.Route(path))...)...)
}

// TestUnsupported is about operations that a path does not have.
func TestUnsupported(t *testing.T) {
	m := newMount(t)
	for _, path := range []string{"rotate", "creds", "nothing", "history/default/x/y"} {
		for _, op := range []logical.Operation{logical.DeleteOperation, logical.ListOperation} {
			if resp, err := m.try(op, path, nil); err == nil && !resp.IsError() {
				t.Errorf("%s %s answers %v", op, path, resp)
			}
		}
	}
	for path, words := range map[string][]string{
		"creds":  {"creds does not support list; it supports: read"},
		"creds/": {"creds/ does not support list; it supports: read"},
		"rotate": {"rotate does not support list; it supports: write"},
	} {
		m.fails(http.StatusMethodNotAllowed, logical.ListOperation, path, nil, words...)
	}
	m.fails(http.StatusMethodNotAllowed, logical.ReadOperation, "roles", nil, "roles does not support read; it supports: list")
	m.fails(http.StatusMethodNotAllowed, logical.ReadOperation, "rotate/default", nil, "does not support read")
}

// TestUnknownPaths is about paths that there are not: of a 404, the vault command shows "No
// value found", as if there only were nothing yet.
func TestUnknownPaths(t *testing.T) {
	m := newMount(t)
	const read, list, write = logical.ReadOperation, logical.ListOperation, logical.UpdateOperation
	m.refuse([]bad{
		{"one letter less", read, "cred", nil, []string{`path: "cred" is no path of this engine`, "did you mean creds?", "paths begin with: alerts, api-key"}},
		{"one letter less, of a role", read, "cred/default", nil, []string{"did you mean creds?"}},
		{"one letter more", write, "rotates/default", nil, []string{"did you mean rotate?"}},
		{"two letters changed", write, "rolebock", nil, []string{"did you mean rollback?"}},
		{"a letter left out", write, "retir", nil, []string{"did you mean retire?"}},
		{"another word", write, "rotation", nil, []string{`"rotation" is no path`, "paths begin with"}},
		{"another case", read, "Status", nil, []string{"did you mean status?"}},
		{"too deep", read, "creds/default/db/password", nil, []string{"those that begin with creds are: creds/<role>/<name>, creds[/<role>]"}},
		{"not deep enough", write, "secrets", nil, []string{"secrets/<role>/<name>"}},
		{"the mount itself", list, "", nil, []string{"you can list: alerts, checks/<role>, config/history, connections"}},
		{"nothing", read, "", nil, []string{"path: is missing; paths begin with"}},
	})
}

// TestMeant leaves the last letter of each field of each path out.
func TestMeant(t *testing.T) {
	m := newMount(t)
	tried := 0
	for _, path := range m.b.Paths {
		for _, name := range fieldNames(path) {
			short := name[:len(name)-1]
			if len(short) < 3 || path.Fields[short] != nil {
				continue
			}
			tried++
			if err := checkFields(path, d(short, "x")); err == nil || !strings.Contains(plainly(err), "(did you mean "+name+"?)") {
				t.Errorf("%s: for %s it says %v", path.Pattern, short, err)
			}
		}
	}
	if tried < 50 {
		t.Errorf("only %d fields were tried", tried)
	}
	m.write("roles/r", nil)
	m.refused(logical.UpdateOperation, "secrets/r/db", d("type", "database", "username", "x"), "username: is not a field", "did you mean usernames?")
	m.refused(logical.UpdateOperation, "roles/r", d("period", "90d"), "did you mean rotation_period?")
	m.refused(logical.UpdateOperation, "roles/r", d("rotation-period", "90d"), "did you mean rotation_period?")
}

// TestMissing is about reading and deleting what is not there.
func TestMissing(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	before := m.storage.contents(t)
	for _, path := range []string{
		"roles/nope", "connections/nope", "alerts/nope", "destinations/nope",
		"secrets/r/nope", "secrets/nope/nope", "checks/r/nope", "checks/nope/nope",
	} {
		if resp, err := m.try(logical.ReadOperation, path, nil); resp != nil || err != nil {
			t.Errorf("reading %s answers %v, %v", path, resp, err)
		}
		m.warns(logical.DeleteOperation, path, nil, "nothing was deleted: there is nothing at "+path, "vault list smvm/"+strings.TrimSuffix(path, "/nope"))
		m.storage.same(t, before)
	}
	if data := m.read("history/r/nope", nil); data != nil {
		t.Errorf("a record that is not there answers %v", data)
	}
	if keys := m.list("connections"); slices.Contains(keys, "nope") {
		t.Error("a connection that was never written is listed")
	}
}
