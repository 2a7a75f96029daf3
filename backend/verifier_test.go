package backend

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/connections"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// verifierOf is what PostgreSQL keeps of a user's password.
func (s *server) verifierOf(user any) (verifier string) {
	s.Helper()
	const query = "SELECT coalesce(rolpassword, '') FROM pg_catalog.pg_authid WHERE rolname = $1"
	if err := s.session().QueryRow(s.Context(), query, fmt.Sprint(user)).Scan(&verifier); err != nil {
		s.Fatal(err)
	}
	return verifier
}

// kept is what PostgreSQL keeps of the current login of each secret of role r.
func (s *server) kept() map[string]string {
	s.Helper()
	creds, kept := s.read("creds/r", nil), map[string]string{}
	for _, name := range []string{"one", "two"} {
		kept[name] = s.verifierOf(creds[name+"_username"])
	}
	return kept
}

// TestTheSameLoginIsTheSameVerifier sets values again in every way there is: PostgreSQL
// then has of each, byte for byte, what it had before. Poolers rely on it.
func TestTheSameLoginIsTheSameVerifier(t *testing.T) {
	for _, aged := range []bool{false, true} {
		t.Run(fmt.Sprintf("of an earlier version %t", aged), func(t *testing.T) {
			m := newMount(t)
			s := m.connect()
			s.orders()
			if aged {
				m.forgetVerifiers()
				m.boot()
				// The first intent gives the values theirs; the first change sets them.
				m.write("rollback/r", nil)
				m.write("rollback/r", nil)
			}
			before := s.kept()
			same := func(how string) {
				t.Helper()
				for name, was := range before {
					if now := s.kept()[name]; now != was || !strings.HasPrefix(was, "SCRAM-SHA-256$") {
						t.Errorf("%s: the verifier of secret %s is another one", how, name)
					}
				}
			}
			m.write("rotate/r", nil)
			m.write("rollback/r", nil)
			same("rotate and roll back")
			for _, secret := range []string{"one", "two"} {
				m.write("secrets/r/"+secret, d("verification_statements", "SELECT * FROM no_such_table"))
				m.fails(422, logical.UpdateOperation, "rotate/r", d("secrets", secret), "undefined_table")
				m.write("secrets/r/"+secret, d("verification_statements", ""))
				same("undo of " + secret)
			}
			creds := m.read("creds/r", nil)
			for _, name := range []string{"one", "two"} {
				s.sql("ALTER ROLE %s PASSWORD 'set-by-hand'", creds[name+"_username"])
			}
			m.write("verify/r", d("repair", true))
			same("repair")
			m.storage.allowPuts(3) // the intent and the fences, and not the commit
			if _, err := m.try(logical.UpdateOperation, "rotate/r", nil); err == nil {
				t.Error("the rotation was not interrupted")
			}
			s.sql("ALTER ROLE %s PASSWORD 'set-by-hand'", creds["one_username"])
			m.storage.allowPuts(-1)
			m.boot()
			m.eventually("the recovery", func() bool {
				m.tick(time.Second)
				return m.read("status/r", nil)["in_flight"] == nil
			})
			same("recovery")
		})
	}
}

// forgetVerifiers makes of the storage one of before there were any.
func (m *mount) forgetVerifiers() {
	m.Helper()
	for key, value := range m.storage.contents(m.T) {
		state, err := rotation.Decode([]byte(value))
		if err != nil || !strings.HasPrefix(key, roles.Prefix) && !strings.HasPrefix(key, roles.ConnectionPrefix) {
			continue
		}
		for _, secret := range state.Secrets {
			for _, v := range []*rotation.Value{secret.Current, secret.Previous} {
				if v != nil {
					delete(v.Material, "verifier")
				}
			}
		}
		raw, err := json.Marshal(state)
		if err == nil {
			err = m.storage.Put(m.Context(), &logical.StorageEntry{Key: key, Value: raw})
		}
		if err != nil {
			m.Fatal(err)
		}
	}
}

// adminValue is the current value of the administrator of "main".
func (s *server) adminValue() rotation.Material {
	s.Helper()
	r, err := s.b.registry.Get(s.Context(), roles.ConnectionPrefix, "main")
	if err != nil || r == nil {
		s.Fatalf("find the connection: %v", err)
	}
	return r.Snapshot().Secrets[connections.Admin].Current.Material
}

// TestTheAdministratorKeepsItsVerifier interrupts a rotation of the administrator's
// password after it was set, which recovery sets again.
func TestTheAdministratorKeepsItsVerifier(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("rotate-root/main", nil)
	before := s.verifierOf(s.admin)
	m.write("connections/main", d("password", s.adminValue()["password"]))
	if got := s.adminValue()["verifier"]; got != before {
		t.Error("to write the same password again makes another value of it")
	}
	m.storage.allowPuts(2) // the intent and the fence, and not the commit
	m.fails(422, logical.UpdateOperation, "rotate-root/main", nil, "commit")
	m.storage.allowPuts(-1)
	m.boot()
	m.eventually("the recovery", func() bool {
		m.tick(time.Second)
		return m.read("connections/main", nil)["in_flight"] == nil
	})
	if got := s.verifierOf(s.admin); got != s.adminValue()["verifier"] || got == before {
		t.Error("PostgreSQL has another verifier than the value")
	}
}

// TestNobodyIsGivenAVerifier reads whatever there is to read.
func TestNobodyIsGivenAVerifier(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	verifier := s.kept()["one"]
	for _, path := range []string{"creds/r", "creds/r/one", "status/r", "secrets/r/one", "history/r", "verify/r", "connections/main"} {
		if answer := fmt.Sprint(m.read(path, nil)); strings.Contains(answer, verifier) || strings.Contains(answer, "SCRAM-SHA-256$") || strings.Contains(answer, "one_verifier") {
			t.Errorf("%s shows a verifier", path)
		}
	}
	clear := s.described()
	clear["password_authentication"] = "password"
	m.write("connections/clear", clear)
	m.write("roles/clear", nil)
	m.write("secrets/clear/db", d("type", "database", "connection", "clear", "usernames", s.user()))
	if made := m.stored("clear").Secrets["db"].Current.Material["verifier"]; made != "" {
		t.Error("a value whose password is sent in clear has a verifier")
	}
	if err := logIn(t, m.read("creds/clear/db", nil)["username"], m.read("creds/clear/db", nil)["password"]); err != nil {
		t.Error(err)
	}
}
