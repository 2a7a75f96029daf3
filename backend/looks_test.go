package backend

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
)

// passwords is what the server has stored of its users' passwords.
func (s *server) passwords() (all string) {
	s.Helper()
	if err := s.session().QueryRow(s.Context(), "SELECT string_agg(concat(rolname, rolpassword), ' ' ORDER BY rolname) FROM pg_authid WHERE rolname LIKE 'app%' OR rolname LIKE 'admin%'").Scan(&all); err != nil {
		s.Fatal(err)
	}
	return all
}

// TestLooksBeforeItTouches spoils the user of the secret that would be set last, and
// expects every operation to be refused before the first is set, with what a dry run
// says.
func TestLooksBeforeItTouches(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	user := s.user()
	m.write("roles/r", d("rotation_period", "1h"))
	m.write("secrets/r/a", d("type", "database", "connection", "main", "usernames", s.user()))
	m.write("secrets/r/b", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", s.pair()))
	m.write("secrets/r/z", d("type", "database", "connection", "main", "usernames", user))
	m.write("rotate/r", nil)
	creds := m.read("creds/r", nil)
	for name, test := range map[string]struct{ spoil, mend, fix string }{
		"no login":      {"ALTER ROLE %s NOLOGIN", "ALTER ROLE %s LOGIN", "LOGIN;"},
		"expired":       {"ALTER ROLE %s VALID UNTIL '2020-01-01'", "ALTER ROLE %s VALID UNTIL 'infinity'", "VALID UNTIL 'infinity';"},
		"limit used up": {"ALTER ROLE %s CONNECTION LIMIT 1", "ALTER ROLE %s CONNECTION LIMIT -1", "CONNECTION LIMIT 2;"},
		"superuser":     {"ALTER ROLE %s SUPERUSER", "ALTER ROLE %s NOSUPERUSER", "use another user"},
	} {
		held := s.loggedIn(user, creds["z_password"])
		s.sql(test.spoil, user)
		before := s.passwords()
		m.refused(logical.UpdateOperation, "rotate/r", d("dry_run", true), "would fail", "secret z", test.fix)
		for path, data := range map[string]map[string]any{
			"rotate/r": nil, "rotate/r ": d("revoke_previous", true), "rollback/r": nil,
		} {
			m.fails(422, logical.UpdateOperation, strings.TrimSpace(path), data, "failed: secret z: look: usernames: ", test.fix, "Nothing was changed")
		}
		if s.passwords() != before {
			t.Errorf("%s: a password was set", name)
		}
		held()
		s.sql(test.mend, user)
	}
	if after := m.read("creds/r", nil); fmt.Sprint(after) != fmt.Sprint(creds) {
		t.Error("what is read changed")
	}
	if status := m.read("status/r", nil); status["in_flight"] != nil || !strings.Contains(status["last_error"].(string), "secret z: look") || strings.Contains(status["last_error"].(string), "invalid request") {
		t.Errorf("the status is %v", status)
	}
	m.write("rotate/r", nil)
}

// loggedIn opens a session of a user and returns how to end it.
func (s *server) loggedIn(user string, password any) (end func()) {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), pgtest.Shared.DSN(user, fmt.Sprint(password), "postgres"))
	if err != nil {
		s.Fatal(err)
	}
	return func() { _ = conn.Close(context.Background()) }
}

// TestRepairLooksFirst has a password that was changed by hand, of a user whose logins
// have ended: to set it again would be in vain, and is not offered.
func TestRepairLooksFirst(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	user, other := s.user(), s.user()
	m.write("roles/r", nil)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", user))
	m.write("secrets/r/more", d("type", "database", "connection", "main", "usernames", other))
	creds := m.read("creds/r", nil)
	s.sql("ALTER ROLE %s PASSWORD 'by hand' VALID UNTIL '2020-01-01'; ALTER ROLE %s PASSWORD 'by hand'", user, other)
	verified := m.read("verify/r", nil)
	for _, f := range findings(verified, "secret.valid") {
		if offered := strings.Contains(fmt.Sprint(f["fix"]), "repair=true"); offered != (f["secret"] == "more") {
			t.Errorf("of secret %v, the fix is %v", f["secret"], f["fix"])
		}
	}
	if advice := verified["advice"].(string); !strings.Contains(advice, "secret more") || strings.Contains(advice, "secret db") {
		t.Errorf("the advice is %s", advice)
	}
	before := s.stored(user)
	m.fails(422, logical.UpdateOperation, "verify/r", d("repair", true), "secret db: look", "VALID UNTIL 'infinity';")
	if s.stored(user) != before {
		t.Error("the password was set in vain")
	}
	if err := logIn(t, other, creds["more_password"]); err != nil {
		t.Errorf("the other secret was not repaired: %v", err)
	}
	s.sql("ALTER ROLE %s VALID UNTIL 'infinity'", user)
	m.write("verify/r", d("repair", true))
	if err := logIn(t, user, creds["db_password"]); err != nil {
		t.Error(err)
	}
}

// stored is what the server has stored of a password.
func (s *server) stored(user string) (verifier string) {
	s.Helper()
	if err := s.session().QueryRow(s.Context(), "SELECT rolpassword FROM pg_authid WHERE rolname = $1", user).Scan(&verifier); err != nil {
		s.Fatal(err)
	}
	return verifier
}

// TestDryRunMeetsARotation tries a rotation while one waits, and while somebody else
// changes the user.
func TestDryRunMeetsARotation(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	wait, hold := s.lock()
	m.write("roles/r", nil)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", s.user()))
	m.write("secrets/r/db", d("verification_statements", []any{wait}))
	release := hold()
	m.write("rotate/r", d("wait", 0))
	m.fails(409, logical.UpdateOperation, "rotate/r", d("dry_run", true), "rotate", "under way")
	release()
	m.eventually("the rotation", func() bool { return m.read("status/r", nil)["in_flight"] == nil })
	if answer := m.write("rotate/r", d("dry_run", true)); answer["status"] != "dry_run" {
		t.Errorf("then it answers %v", answer)
	}
}
