package backend

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

func TestSubset(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	for _, name := range []string{"a", "b", "c"} {
		m.write("secrets/r/"+name, d("type", "random"))
	}
	first, next := m.read("creds/r", nil), m.next("r")
	if answer := m.write("rotate/r", d("secrets", []any{"a", "b"})); answer["a_steps"] == nil || answer["b_steps"] == nil || answer["c_steps"] != nil {
		t.Errorf("rotating two secrets answers %v", answer)
	}
	now := m.read("creds/r", nil)
	if now["c_value"] != first["c_value"] || now["a_value"] == first["a_value"] || now["b_value"] == first["b_value"] {
		t.Error("other secrets rotated than those that were named")
	}
	if m.next("r") != next {
		t.Error("rotating a part moves the schedule of the whole")
	}
	m.write("rollback/r", d("secrets", "a"))
	back := m.read("creds/r", nil)
	if back["a_value"] != first["a_value"] || back["b_value"] != now["b_value"] || back["version"] != 5 {
		t.Error("other secrets were rolled back than those that were named")
	}
	m.refused(logical.UpdateOperation, "rollback/r", d("secrets", "c"), "secrets", `"c" has no previous value`, "these have: a, b")
}

// TestRollbackOfARollback makes sure of a rollback by a second one, which goes the other
// way: that is told, and what undoes it.
func TestRollbackOfARollback(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	for _, name := range []string{"a", "b", "c"} {
		m.write("secrets/r/"+name, d("type", "random"))
	}
	m.clock.advance(time.Minute)
	m.write("rotate/r", d("secrets", []any{"a", "b"}))
	bad := m.read("creds/r", nil)
	silent := func() {
		t.Helper()
		if resp, err := m.try(logical.UpdateOperation, "rollback/r", nil); m.must(resp, err) == nil || len(resp.Warnings) > 0 {
			t.Errorf("a rollback to the older values is answered %v", resp)
		}
	}
	silent()
	m.warns(logical.UpdateOperation, "rollback/r", nil, "this rollback undid an earlier one", "with version 6", "current again (a has that of version 4, b has that of version 4)", "write rollback/r with secrets=a,b")
	if now := m.read("creds/r", nil); now["a_value"] != bad["a_value"] {
		t.Error("the second rollback does not undo the first")
	}
	silent()
	if now := m.read("creds/r", nil); now["a_value"] == bad["a_value"] {
		t.Error("the third rollback does not undo the second")
	}
}

// TestWithoutNamingTheRole forgets the role in the path: with several roles, the answer says
// which one that was.
func TestWithoutNamingTheRole(t *testing.T) {
	m := newMount(t)
	m.write("roles/default", nil)
	m.write("secrets/default/pin", d("type", "random"))
	silent := func(path string, data map[string]any) {
		t.Helper()
		if resp, err := m.try(logical.UpdateOperation, path, data); m.must(resp, err) == nil || len(resp.Warnings) > 0 {
			t.Errorf("%s is answered %v", path, resp)
		}
	}
	silent("rotate", nil)
	m.write("roles/shop", nil)
	m.write("roles/gone", nil)
	m.deleteRole("gone")
	m.warns(logical.UpdateOperation, "rotate", d("dry_run", true), "so this was about role default. There are others: shop. To name one", "rotate/shop")
	for _, path := range []string{"rotate", "rollback", "retire"} {
		m.warns(logical.UpdateOperation, path, nil, "the request named no role, so this was about role default", path+"/shop")
	}
	m.clock.advance(48 * time.Hour)
	silent("rotate/default", nil)
}

// TestRollbackOfAVersion undoes what a version has changed, and neither another one nor
// a rollback: who tests new values and rolls back what fails does not do so for ever.
func TestRollbackOfAVersion(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	for _, name := range []string{"a", "b"} {
		m.write("secrets/r/"+name, d("type", "random"))
	}
	m.refused(logical.UpdateOperation, "rollback/r", d("if_version", 2), "if_version: version 2 of r was not made by a rotation", "nothing was changed")
	m.write("rotate/r", nil)
	whole := m.read("creds/r", nil)
	m.write("rotate/r", d("secrets", "b"))
	part := m.read("creds/r", nil)
	m.refused(logical.UpdateOperation, "rollback/r", d("if_version", 3), "if_version: is 3, but r has version 4 now", "nothing was changed")
	m.refused(logical.UpdateOperation, "rollback/r", d("if_version", 4, "secrets", "a"), `secrets: "a"`, "these have: b")
	if same := m.read("creds/r", nil); same["version"] != 4 || same["b_value"] != part["b_value"] {
		t.Error("what was refused has changed something")
	}
	m.write("rollback/r", d("if_version", 4))
	back := m.read("creds/r", nil)
	if back["version"] != 5 || back["a_value"] != whole["a_value"] || back["b_value"] != whole["b_value"] {
		t.Errorf("version %v has other values than before version 4", back["version"])
	}
	m.refused(logical.UpdateOperation, "rollback/r", d("if_version", 5), "if_version: version 5 of r was not made by a rotation")
	m.write("rotate/r", nil)
	m.write("rollback/r", d("if_version", 6))
	if again := m.read("creds/r", nil); again["version"] != 7 || again["a_value"] != whole["a_value"] || again["b_value"] != whole["b_value"] {
		t.Error("a rotation after a rollback is not undone")
	}
}

func TestDryRun(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	user := s.user()
	m.write("roles/r", nil)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", user))
	m.write("secrets/r/jwt", d("type", "jwt"))
	before, creds := m.storage.contents(t), m.read("creds/r", nil)
	answer := m.write("rotate/r", d("dry_run", true))
	if answer["status"] != "dry_run" || answer["version"] != 2 {
		t.Errorf("a dry run answers %v", answer)
	}
	m.storage.same(t, before)
	if err := logIn(t, creds["db_username"], creds["db_password"]); err != nil {
		t.Errorf("after a dry run the login fails: %v", err)
	}
	s.sql("ALTER ROLE %s NOLOGIN; ALTER ROLE %s VALID UNTIL '2020-01-01'", user, user)
	m.refused(logical.UpdateOperation, "rotate/r", d("dry_run", true), "would fail", "secret db", "LOGIN;", "VALID UNTIL 'infinity'", "nothing was changed")
	m.storage.same(t, before)
}

// TestFailedRotation has a verification statement that the user may not run.
func TestFailedRotation(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	table, users := unique("orders"), s.pair()
	s.sql("CREATE TABLE %s (id int); GRANT SELECT ON %s TO %s", table, table, users[0])
	m.write("roles/r", nil)
	m.write("secrets/r/jwt", d("type", "jwt"))
	m.write("secrets/r/db", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", users,
		"verification_statements", []any{"SELECT * FROM " + table}))
	before := m.read("creds/r", nil)
	m.fails(422, logical.UpdateOperation, "rotate/r", nil, "rotate", "of r rolled back", "secret db: test", "verification statement 1",
		"insufficient_privilege (SQLSTATE 42501)", "put the targets back", "readers keep the same values")
	if after := m.read("creds/r", nil); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("a rotation that was rolled back changes what is read")
	}
	if err := logIn(t, before["db_username"], before["db_password"]); err != nil {
		t.Errorf("after a rotation that was rolled back: %v", err)
	}
	ids := m.list("history/r")
	rec := m.read("history/r/"+ids[len(ids)-1], nil)
	if rec["outcome"] != "rolled_back" || !strings.Contains(fmt.Sprint(rec["issues"]), "insufficient_privilege (SQLSTATE 42501)") {
		t.Errorf("the record is %v", rec)
	}
	if status := m.read("status/r", nil); status["failures"] != 0 || !strings.Contains(status["last_error"].(string), "insufficient_privilege (SQLSTATE 42501)") {
		t.Errorf("after a failed rotation by hand, the status is %v", status)
	}
	s.sql("GRANT SELECT ON %s TO %s", table, users[1])
	if answer := m.write("rotate/r", nil); answer["version"] != 3 {
		t.Errorf("with the grant it answers %v", answer)
	}
}

// TestRevokePrevious is break-glass; what it could not revoke, it says.
func TestRevokePrevious(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	users := s.pair()
	m.write("roles/r", nil)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", users))
	first := m.read("creds/r", nil)
	m.write("rotate/r", d("revoke_previous", true, "reason", "leaked"))
	if err := logIn(t, first["db_username"], first["db_password"]); err == nil {
		t.Error("a revoked password works")
	}
	m.refused(logical.ReadOperation, "creds/r", d("stage", "previous"), "no previous value")
	s.sql("ALTER ROLE %s SUPERUSER", users[1]) // whose password the administrator may not change
	second := m.read("creds/r", nil)
	resp, err := m.try(logical.UpdateOperation, "rotate/r", d("revoke_previous", true))
	if m.must(resp, err)["status"] != "completed" || !strings.Contains(fmt.Sprint(resp.Warnings), "not revoked yet") {
		t.Errorf("what could not be revoked is answered %v", resp)
	}
	m.mentions(fmt.Errorf("%v", resp.Warnings), "is a superuser")
	if err := logIn(t, second["db_username"], second["db_password"]); err != nil {
		t.Errorf("the test did not keep the password from being revoked: %v", err)
	}
	s.sql("ALTER ROLE %s NOSUPERUSER", users[1])
	m.eventually("the retirement", func() bool {
		m.tick(time.Minute)
		return logIn(t, second["db_username"], second["db_password"]) != nil
	})
}

func TestRollBackDatabase(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/r", nil)
	m.write("secrets/r/one", d("type", "database", "connection", "main", "usernames", s.user()))
	m.write("secrets/r/two", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", s.pair()))
	first := m.read("creds/r", nil)
	m.write("rotate/r", nil)
	m.write("rollback/r", d("reason", "regression"))
	back := m.read("creds/r", nil)
	for _, name := range []string{"one_password", "two_password", "two_username"} {
		if back[name] != first[name] {
			t.Errorf("a rollback brings another %s", name)
		}
	}
	for _, name := range []string{"one", "two"} {
		if err := logIn(t, back[name+"_username"], back[name+"_password"]); err != nil {
			t.Errorf("after a rollback, the login of %s: %v", name, err)
		}
	}
	if verified := m.read("verify/r", nil); verified["valid"] != true {
		t.Errorf("after a rollback, verify answers %v", verified)
	}
}

func TestVerify(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	user := s.user()
	m.write("roles/r", nil)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", user))
	m.write("secrets/r/jwt", d("type", "jwt"))
	if verified := m.read("verify/r", nil); verified["valid"] != true || verified["version"] != 2 {
		t.Errorf("verify answers %v", verified)
	}
	s.sql("ALTER ROLE %s PASSWORD 'changed-by-hand'", user)
	verified := m.read("verify/r", nil)
	secrets := verified["secrets"].(map[string]any)
	if verified["valid"] != false || secrets["jwt"].(map[string]any)["valid"] != true ||
		!strings.Contains(fmt.Sprint(secrets["db"]), "password authentication failed") {
		t.Errorf("with the password changed by hand, verify answers %v", verified)
	}
}

// TestImport takes over values that are in use, and refuses those that are not.
func TestImport(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	user, password := s.user(), "in-use-"+uid(t)
	s.sql("ALTER ROLE %s PASSWORD '%s'", user, password)
	m.write("roles/r", nil)
	of := d("type", "database", "connection", "main", "usernames", user, "skip_import_rotation", true)
	m.fails(422, logical.UpdateOperation, "secrets/r/db", but(of, "password", "not-in-use-at-all"), "import", "secret db: test", "Nothing was changed")
	m.refused(logical.ReadOperation, "creds/r", nil, "no values")
	m.write("secrets/r/db", but(of, "password", password))
	imported := strings.Repeat("0123456789abcdef", 4)
	m.write("secrets/r/jwt", d("type", "jwt", "skip_import_rotation", true, "secret", imported))
	if creds := m.read("creds/r", nil); creds["db_password"] != password || creds["jwt_secret"] != imported {
		t.Error("an imported value is not the one that is read")
	}
	m.write("rotate/r", nil)
	if err := logIn(t, user, password); err == nil {
		t.Error("after a rotation the imported password works")
	}
	m.deleteRole("r")
}

// TestPasswordPolicy lets Vault make the values.
func TestPasswordPolicy(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/r", nil)
	m.write("secrets/r/pin", d("type", "random", "password_policy", "letters"))
	m.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", s.user(), "password_policy", "letters"))
	for range 2 {
		creds := m.read("creds/r", nil)
		for _, name := range []string{"pin_value", "db_password"} {
			if !strings.HasPrefix(creds[name].(string), strings.Repeat("a", 30)) {
				t.Errorf("%s was not made by the policy", name)
			}
		}
		if err := logIn(t, creds["db_username"], creds["db_password"]); err != nil {
			t.Error(err)
		}
		m.write("rotate/r", nil)
	}
	m.refused(logical.UpdateOperation, "secrets/r/pin", d("password_policy", "nosuch"), "password_policy", "nosuch", "sys/policies/password/nosuch")
	m.write("secrets/r/db", d("password_policy", ""))
	m.write("rotate/r", nil)
	if creds := m.read("creds/r", nil); strings.HasPrefix(creds["db_password"].(string), "aaa") {
		t.Error("the policy cannot be taken away")
	}
}
