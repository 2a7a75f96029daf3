package backend

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// beside is another mount, of another Vault, with an administrator of its own at the
// same server, by another name of it.
func (s *server) beside() *server {
	s.Helper()
	m := newMount(s.T)
	other := &server{mount: m, pg: s.pg, admin: unique("admin"), password: "first-" + uid(s.T)}
	other.sql("CREATE ROLE %s LOGIN CREATEROLE PASSWORD '%s'", other.admin, other.password)
	m.write("connections/far", but(other.described(), "host", "localhost"))
	m.write("roles/theirs", nil)
	return other
}

// permit lets the administrator set the password of a user of the other mount's.
func (s *server) permit(user string) string {
	s.Helper()
	if s.pg.Version >= 160000 {
		s.sql("GRANT %s TO %s WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", user, s.admin)
	}
	return user
}

// comment is what PostgreSQL keeps about a user.
func (s *server) comment(user string) (text string) {
	s.Helper()
	err := s.session().QueryRow(s.Context(), "SELECT coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles WHERE rolname = $1", user).Scan(&text)
	if err != nil {
		s.Fatal(err)
	}
	return text
}

// TestTwoMountsOneUser has another mount want a user: in every way in which a user comes
// to be managed it is told whose it is, and nothing is changed, until the administrator
// of that mount takes the user over; then the first one is told.
func TestTwoMountsOneUser(t *testing.T) {
	ours := newMount(t).connect()
	theirs := ours.beside()
	user := theirs.permit(ours.user())
	ours.sql("COMMENT ON ROLE %s IS 'ask Ann'", user)
	ours.write("roles/orders", d("rotation_period", "1h"))
	ours.write("secrets/orders/db", d("type", "database", "connection", "main", "usernames", user))
	ours.boot() // as of a snapshot: it is the same owner
	ours.write("rotate/orders", nil)
	creds := ours.read("creds/orders", nil)
	if got := ours.comment(user); !strings.HasPrefix(got, "ask Ann\n") || !strings.Contains(got, `"role":"orders","secret":"db"`) || strings.Contains(got, creds["db_password"].(string)) {
		t.Errorf("the comment is %q", got)
	}
	words := []string{user, `secret "db" of role "orders"`, "take_over=" + user}
	create := d("type", "database", "connection", "far", "usernames", user)
	imported := but(create, "skip_import_rotation", true, "password", creds["db_password"])
	theirs.refused(logical.UpdateOperation, "secrets/theirs/db", create, words...)
	theirs.refused(logical.UpdateOperation, "secrets/theirs/db", imported, words...)
	theirs.refused(logical.UpdateOperation, "secrets/theirs/db", but(create, "rotation_strategy", "alternating_users", "usernames", []any{theirs.user(), user}), words...)
	if report := ours.read("verify/orders", nil); report["valid"] != true {
		t.Errorf("after another mount was refused: %v", report)
	}
	theirs.refused(logical.UpdateOperation, "connections/far", d("take_over", theirs.admin), "take_over", "administrator")

	resp, err := theirs.try(logical.UpdateOperation, "connections/far", d("take_over", user))
	if theirs.must(resp, err); len(resp.Warnings) != 1 || !strings.Contains(resp.Warnings[0], `role "orders"`) {
		t.Errorf("taking over answers %v", resp)
	}
	ids := theirs.list("connections/far/history")
	if record := theirs.read("connections/far/history/"+ids[len(ids)-1], nil); !strings.Contains(fmt.Sprint(record["issues"]), user) {
		t.Errorf("the record of the take-over is %v", record)
	}
	theirs.write("secrets/theirs/db", imported)
	theirs.write("rotate/theirs", nil)
	taken := theirs.read("creds/theirs", nil)

	resp, err = ours.try(logical.UpdateOperation, "rotate/orders", nil)
	if err == nil {
		t.Fatalf("rotating a user that was taken over answers %v", resp)
	}
	ours.mentions(err, `secret "db" of role "theirs"`, "take_over", "Nothing was changed")
	report := ours.read("verify/orders", nil)
	if advice := report["advice"].(string); !strings.Contains(advice, `role "theirs"`) || strings.Contains(fmt.Sprint(report["report"], advice), "repair=true") {
		t.Errorf("verify advises %q", advice)
	}
	if resp, err := ours.try(logical.UpdateOperation, "verify/orders", d("repair", true)); err == nil && !resp.IsError() {
		t.Errorf("repairing answers %v", resp)
	}
	ours.delete("secrets/orders/db")
	if err := logIn(t, taken["db_username"], taken["db_password"]); err != nil {
		t.Errorf("the login of the owner: %v", err)
	}
	if got := ours.comment(user); !strings.Contains(got, `"role":"theirs"`) {
		t.Errorf("the comment is %q", got)
	}
	theirs.deleteRole("theirs")
	if got := ours.comment(user); got != "ask Ann" {
		t.Errorf("what is left of the comment is %q", got)
	}
	ours.write("secrets/orders/db", d("type", "database", "connection", "main", "usernames", user))
}

// TestAConnectionMovedToUsersOfOthers is refused to lead where its users have another
// owner, in this mount or in another one.
func TestAConnectionMovedToUsersOfOthers(t *testing.T) {
	ours := newMount(t).connect()
	user := ours.user()
	ours.write("roles/orders", nil)
	ours.write("secrets/orders/db", d("type", "database", "connection", "main", "usernames", user))
	elsewhere := &server{mount: ours.mount, pg: ours.pg, admin: ours.admin, password: ours.password}
	other := otherServer(t, ours.admin, ours.password, user)
	ours.write("connections/second", but(elsewhere.described(), "port", other.Port))
	ours.write("roles/two", nil)
	ours.write("secrets/two/db", d("type", "database", "connection", "second", "usernames", user))
	for _, host := range []string{pgtest.Shared.Host, "localhost"} {
		ours.refused(logical.UpdateOperation, "connections/second", d("host", host, "port", pgtest.Shared.Port), user, "role orders")
		ours.refused(logical.UpdateOperation, "connections/second", d("host", host, "port", pgtest.Shared.Port, "verify_connection", false), user, "role orders")
	}
	m := newMount(t)
	m.write("connections/main", but(ours.described(), "port", other.Port))
	theirs := &server{mount: m, pg: ours.pg, admin: ours.admin, password: ours.password}
	m.write("connections/main", d("take_over", user))
	m.write("roles/theirs", nil)
	m.write("secrets/theirs/db", d("type", "database", "connection", "main", "usernames", user))
	theirs.refused(logical.UpdateOperation, "connections/main", d("port", pgtest.Shared.Port), user, `role "orders"`)
	if report := ours.read("verify/orders", nil); report["valid"] != true {
		t.Errorf("after the moves were refused: %v", report)
	}
}

// otherServer is another PostgreSQL, with an administrator and a user of these names.
func otherServer(t *testing.T, admin, password, user string) *testenv.Postgres {
	t.Helper()
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{})
	statements := fmt.Sprintf("CREATE ROLE %s LOGIN CREATEROLE PASSWORD '%s'; SET ROLE %[1]s; CREATE ROLE %[3]s LOGIN", admin, password, user)
	if err := pg.Exec(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
	return pg
}
