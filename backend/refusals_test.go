package backend

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// withKey is the role r with the login of one user and an API key.
func (s *server) withKey() (user string) {
	s.Helper()
	user = s.user()
	s.write("roles/r", d("rotation_period", "1h"))
	s.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", user))
	s.write("secrets/r/api", d("type", "api_key"))
	return user
}

// unharmed expects readers to get what they got, as often as before.
func (s *server) unharmed(before map[string]any) {
	s.Helper()
	if after := s.read("creds/r", nil); fmt.Sprint(after) != fmt.Sprint(before) {
		s.Errorf("readers get something else, or are told to come back after %v s, before %v", after["ttl"], before["ttl"])
	}
	status := s.read("status/r", nil)
	if status["in_flight"] != nil {
		s.Errorf("there is left in flight %v", status["in_flight"])
	}
	if status["unresolved"] != nil {
		s.Errorf("unresolved: %v", status["unresolved"])
	}
}

// works logs in with what readers are given.
func (s *server) works() {
	s.Helper()
	creds := s.read("creds/r", nil)
	conn, err := pgx.Connect(s.Context(), s.pg.DSN(fmt.Sprint(creds["db_username"]), fmt.Sprint(creds["db_password"]), "postgres"))
	if err != nil {
		s.Errorf("what readers are given does not work: %v", err)
		return
	}
	_ = conn.Close(s.Context())
}

// TestWithoutTheRight takes away what the administrator needs, while a key beside has
// leaked.
func TestWithoutTheRight(t *testing.T) {
	for _, major := range []int{15, 16, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			m := newMount(t)
			s := m.connectTo(testenv.NewPostgres(t, testenv.PostgresOptions{Major: major}))
			user := s.withKey()
			m.write("rotate/r", d("revoke_previous", true))
			before := m.read("creds/r", nil)
			take, give := fmt.Sprintf("ALTER ROLE %s NOCREATEROLE", s.admin), fmt.Sprintf("ALTER ROLE %s CREATEROLE", s.admin)
			if major >= 16 {
				take = fmt.Sprintf("REVOKE ADMIN OPTION FOR %s FROM %s", user, s.admin)
				give = fmt.Sprintf("GRANT %s TO %s WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", user, s.admin)
			}
			s.sql("%s", take)
			m.fails(422, logical.UpdateOperation, "rotate/r", nil, s.admin, "Nothing was changed")
			s.unharmed(before)
			m.fails(422, logical.UpdateOperation, "rotate/r", d("revoke_previous", true), "Nothing was changed")
			s.unharmed(before)
			m.write("rotate/r", d("secrets", "api", "revoke_previous", true))
			after := m.read("creds/r", nil)
			if after["api_key"] == before["api_key"] || after["db_password"] != before["db_password"] || after["ttl"] != before["ttl"] {
				t.Errorf("after the leaked key was replaced, ttl is %v, before %v", after["ttl"], before["ttl"])
			}
			if answer := m.must(m.try(logical.UpdateOperation, "api-key/r/api/verify", d("key", before["api_key"]))); answer["valid"] != false {
				t.Errorf("the leaked key is answered %v", answer)
			}
			s.works()
			s.sql("%s", give)
			m.write("rotate/r", nil)
			s.works()
		})
	}
}

// TestReadOnlyDatabase makes transactions read only unless they say otherwise, for the
// sessions that the pool has and for new ones.
func TestReadOnlyDatabase(t *testing.T) {
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{})
	for _, fresh := range []bool{false, true} {
		t.Run(fmt.Sprintf("fresh sessions %t", fresh), func(t *testing.T) {
			m := newMount(t)
			s := m.connectTo(pg)
			s.withKey()
			t.Cleanup(func() { s.elsewhere("ALTER DATABASE postgres RESET default_transaction_read_only") })
			s.elsewhere("ALTER DATABASE postgres SET default_transaction_read_only = on")
			if fresh {
				m.boot()
			}
			m.write("rotate/r", d("revoke_previous", true))
			s.works()
			if !fresh {
				s.elsewhere("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + s.admin + "'")
			}
			m.write("rotate/r", nil)
			m.write("rollback/r", nil)
			s.works()
			m.write("rotate-root/main", nil)
			m.write("rotate/r", d("revoke_previous", true))
			s.elsewhere("ALTER DATABASE postgres RESET default_transaction_read_only")
			m.write("rotate/r", nil)
			s.works()
		})
	}
}

// elsewhere runs a statement as the superuser in another database than "main" leads to.
func (s *server) elsewhere(sql string) {
	s.Helper()
	if err := s.pg.ExecIn(context.Background(), "template1", sql); err != nil {
		s.Error(err)
	}
}

// TestServersThatCheckPasswords has servers that refuse verifiers, at once or when they
// are to be committed. Either is definite, and the way out that the error names is one.
func TestServersThatCheckPasswords(t *testing.T) {
	for name, rule := range map[string]testenv.Rule{
		"COMMIT":                testenv.RefuseCommit,
		"ALTER ROLE with 28000": testenv.RefuseVerifier,
	} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t)
			s := m.connect()
			user := s.withKey()
			checking := testenv.NewChecking(t, s.pg, rule)
			m.write("connections/main", d("port", checking.Port))
			m.write("verify/r", d("repair", true))
			checking.Begin()
			before := m.read("creds/r", nil)
			const way = "password_authentication=password"
			m.fails(422, logical.UpdateOperation, "rotate/r", nil, "Nothing was changed", way)
			s.unharmed(before)
			s.works()
			m.fails(422, logical.UpdateOperation, "rotate-root/main", nil, "Nothing was changed", way)
			if op := m.read("connections/main", nil)["in_flight"]; op != nil {
				t.Errorf("rotate-root leaves in flight %v", op)
			}
			m.write("rotate/r", d("secrets", "api", "revoke_previous", true))
			if rule == testenv.RefuseCommit {
				report := m.write("rotate/r", d("dry_run", true))["report"]
				if !strings.Contains(fmt.Sprint(report), "a dry run does not try whether the server accepts the COMMIT") {
					t.Errorf("a dry run says %v", report)
				}
			} else {
				resp, err := m.try(logical.UpdateOperation, "rotate/r", d("dry_run", true))
				if err == nil && !resp.IsError() {
					t.Errorf("a dry run says %v", resp)
				}
			}
			m.write("connections/main", d("password_authentication", "password", "password", s.password))
			m.write("rotate/r", nil)
			s.works()
			m.write("rollback/r", nil)
			s.works()
			m.write("rotate-root/main", nil)
			m.write("rotate/r", nil)
			s.works()
			if got := m.read("creds/r", nil)["db_username"]; got != user {
				t.Errorf("the user is %v", got)
			}
		})
	}
}
