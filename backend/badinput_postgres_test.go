package backend

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
)

// but is the data with some fields changed.
func but(data map[string]any, pairs ...any) map[string]any {
	changed := d(pairs...)
	for name, value := range data {
		if _, named := changed[name]; !named {
			changed[name] = value
		}
	}
	return changed
}

func TestBadConnection(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	good, stored := s.described(), m.read("connections/main", nil)
	at := fmt.Sprintf("%s:%d", pgtest.Shared.Host, pgtest.Shared.Port)
	url := "postgresql://{{username}}:{{password}}@" + at + "/postgres?sslmode=disable"
	byURL := d("connection_url", url, "username", s.admin, "password", s.password)
	m.storage.note("password in a URL", "hunter2-hunter2")
	m.refuse([]bad{
		{"unknown field", "", "connections/new", but(good, "hostname", "x"), []string{"hostname", "it has:", "host"}},
		{"nothing", "", "connections/new", nil, []string{"host", "is needed"}},
		{"no username", "", "connections/new", d("host", "h", "database", "d"), []string{"username", "give the user"}},
		{"no password", "", "connections/new", d("host", "h", "database", "d", "username", "u"), []string{"password", "needs its password"}},
		{"new username without password", "", "connections/main", d("username", "somebody"), []string{"password", "needs its password"}},
		{"wrong password", "", "connections/new", but(good, "password", "wrong-wrong-wrong"), []string{"username, password: the server refused this user name with this password: PostgreSQL does not say which", "look at username first", `\password`, "Nothing was stored", "password authentication failed", "verify_connection=false would store a login that does not work"}},
		{"wrong username", "", "connections/new", but(good, "username", "nobody_here"), []string{"username, password: the server refused this user name", "look at username first", "password authentication failed"}},
		{"wrong password, existing", "", "connections/main", d("password", "wrong-wrong-wrong"), []string{"password: the server refused this user name with this password: username is the stored one, so look at password", "password authentication failed", "Nothing was stored"}},
		{"no such database", "", "connections/new", but(good, "database", "nodb"), []string{"host, port, database, sslmode, username, password: the engine could not log in", "nodb", "does not exist", "verify_connection=false stores without logging in"}},
		{"password in the URL", "", "connections/new", but(byURL, "connection_url", "postgresql://me:hunter2-hunter2@"+at+"/postgres"), []string{"connection_url", "fields username and password"}},
		{"password in a URL that is none", "", "connections/new", but(byURL, "connection_url", "me:hunter2-hunter2@"+at), []string{"connection_url", "postgresql://"}},
		{"password as host", "", "connections/new", but(good, "host", "hunter2-hunter2@x"), []string{"host"}},
		{"URL and parts", "", "connections/new", but(byURL, "host", "h"), []string{"connection_url", "leave these out"}},
		{"several hosts", "", "connections/new", but(good, "host", "a,,b"), []string{"host"}},
		{"URL parameter", "", "connections/new", but(byURL, "connection_url", url+"&application_name=x"), []string{"connection_url", "only sslmode"}},
		{"port out of range", "", "connections/new", but(good, "port", 65536), []string{"port", "within 1 and 65535"}},
		{"port is no number", "", "connections/new", but(good, "port", "five"), []string{"port"}},
		{"sslmode prefer", "", "connections/new", but(good, "sslmode", "prefer"), []string{"sslmode", "use verify-full"}},
		{"CA is no PEM", "", "connections/new", but(good, "sslmode", "verify-full", "tls_ca", "not a certificate"), []string{"tls_ca", "tls_ca=@ca.pem"}},
		{"CA is truncated", "", "connections/new", but(good, "sslmode", "verify-ca", "tls_ca", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"), []string{"tls_ca", "no valid certificate"}},
		{"CA without TLS", "", "connections/new", but(good, "tls_ca", "x"), []string{"sslmode", "leave them out"}},
		{"certificate without key", "", "connections/new", but(good, "sslmode", "require", "tls_certificate", "x"), []string{"tls_certificate", "give both or none"}},
		{"server without TLS", "", "connections/new", but(good, "sslmode", "require"), []string{"offers no TLS", "sslmode=disable"}},
		{"pool too large", "", "connections/new", but(good, "max_open_connections", 65), []string{"max_open_connections", "1 and 64"}},
		{"timeout too long", "", "connections/new", but(good, "connect_timeout", "61s"), []string{"connect_timeout", "1m"}},
		{"authentication unknown", "", "connections/new", but(good, "password_authentication", "md5"), []string{"password_authentication", "scram-sha-256"}},
		{"period and schedule", "", "connections/main", d("rotation_period", 60, "rotation_schedule", "0 3 * * *"), []string{"rotation_period", "only one"}},
		{"period too short", "", "connections/main", d("rotation_period", 1), []string{"rotation_period", "1m or more"}},
	})
	if now := m.read("connections/main", nil); fmt.Sprint(now) != fmt.Sprint(stored) {
		t.Errorf("the connection was %v and is %v", stored, now)
	}
}

// TestUnreachable names host and port, and answers within the connect timeout.
func TestUnreachable(t *testing.T) {
	m := newMount(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := silent.Addr().(*net.TCPAddr).Port
	data := d("host", "127.0.0.1", "port", port, "database", "postgres", "sslmode", "disable",
		"username", "u", "password", "never-sent-anywhere", "connect_timeout", 1, "allowed_roles", "r")
	shortest := time.Hour
	for range 3 {
		started := time.Now()
		m.refused(logical.UpdateOperation, "connections/c", data, "host, port, database", fmt.Sprintf("127.0.0.1:%d", port), "no answer in time", "verify_connection=false")
		if shortest = min(shortest, time.Since(started)); shortest <= 3*time.Second {
			break // a request that is held up for another reason is repeated
		}
	}
	if shortest > 3*time.Second {
		t.Errorf("a server that does not answer kept the request for %s", shortest)
	}
	if err := silent.Close(); err != nil {
		t.Fatal(err)
	}
	m.refused(logical.UpdateOperation, "connections/c", data, fmt.Sprintf("127.0.0.1:%d", port), "connection refused")
	m.refused(logical.UpdateOperation, "connections/c", but(data, "host", "no-such-host.invalid"), "no-such-host.invalid", "cannot be resolved")
	m.write("connections/c", but(data, "verify_connection", false))
	m.write("roles/r", nil)
	m.refused(logical.UpdateOperation, "secrets/r/db", d("type", "database", "connection", "c", "usernames", "x"),
		fmt.Sprintf("127.0.0.1:%d", port), "connection refused", "nothing was changed")
}

func TestBadDatabase(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	users, single, foreign := s.pair(), s.user(), unique("foreign")
	s.sql("CREATE ROLE %s LOGIN SUPERUSER", foreign)
	nologin := s.user()
	s.sql("ALTER ROLE %s NOLOGIN", nologin)
	m.write("connections/same", s.described())
	m.write("roles/r", nil)
	m.write("roles/other", nil)
	m.write("secrets/r/db", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", users))
	base := d("type", "database", "connection", "main", "usernames", single)
	const two, managed = "alternating_users", "is managed by secret db of role r already"
	m.refuse([]bad{
		{"no usernames", "", "secrets/r/x", d("type", "database", "connection", "main"), []string{"usernames", "name one user"}},
		{"empty usernames", "", "secrets/r/x", but(base, "usernames", ""), []string{"usernames", "name one user"}},
		{"empty name", "", "secrets/r/x", but(base, "usernames", []any{""}), []string{"usernames", "empty"}},
		{"duplicate", "", "secrets/r/x", but(base, "usernames", []any{single, single}, "rotation_strategy", two), []string{"usernames", "twice"}},
		{"alternating with one", "", "secrets/r/x", but(base, "rotation_strategy", two), []string{"usernames", "name two"}},
		{"single with two", "", "secrets/r/x", but(base, "usernames", []any{single, foreign}), []string{"usernames", "rotation_strategy=alternating_users for two"}},
		{"too long a name", "", "secrets/r/x", but(base, "usernames", strings.Repeat("u", 64)), []string{"usernames", "63"}},
		{"unknown strategy", "", "secrets/r/x", but(base, "rotation_strategy", "both"), []string{"rotation_strategy", "single_user or alternating_users"}},
		{"no connection", "", "secrets/r/x", d("type", "database", "usernames", single), []string{"connection", "is missing", "there is: main"}},
		{"unknown connection", "", "secrets/r/x", but(base, "connection", "nope"), []string{"connection", "nope", "there is: main, same"}},
		{"administrator", "", "secrets/r/x", but(base, "usernames", s.admin), []string{"usernames", "administrator of connection main", "rotate-root/main"}},
		{"one of two is the administrator", "", "secrets/r/x", but(base, "usernames", []any{single, s.admin}, "rotation_strategy", two), []string{"usernames", "administrator"}},
		{"managed in this role", "", "secrets/r/x", but(base, "usernames", users[0]), []string{"usernames", users[0], managed}},
		{"managed in another role", "", "secrets/other/x", but(base, "usernames", users[1]), []string{"usernames", users[1], managed}},
		{"managed by another connection", "", "secrets/other/x", but(base, "connection", "same", "usernames", users[1]), []string{"usernames", users[1], managed}},
		{"does not exist", "", "secrets/r/x", but(base, "usernames", "ghost"), []string{"usernames", `CREATE ROLE "ghost" LOGIN;`, "nothing was changed"}},
		{"may not log in", "", "secrets/r/x", but(base, "usernames", nologin), []string{"usernames", "name one of its members", fmt.Sprintf(`ALTER ROLE %q LOGIN;`, nologin)}},
		{"superuser", "", "secrets/r/x", but(base, "usernames", foreign), []string{"usernames", "is a superuser", "use another user"}},
		{"apart", "", "secrets/r/x", but(base, "usernames", []any{single, s.member()}, "rotation_strategy", two), []string{"usernames", "GRANT"}},
		{"statement takes over", "", "secrets/r/x", but(base, "verification_statements", []any{"COMMIT"}), []string{"verification_statements", "leave it out"}},
		{"statement sets nothing", "", "secrets/r/x", but(base, "rotation_statements", []any{"SELECT 1"}), []string{"rotation_statements", "{{password}}"}},
		{"unknown policy", "", "secrets/r/x", but(base, "password_policy", "nosuch"), []string{"password_policy", "nosuch", "sys/policies/password/nosuch"}},
		{"length of a database", "", "secrets/r/x", but(base, "length", 5), []string{"length", "usernames"}},
		{"other users", "", "secrets/r/db", d("usernames", []any{single, foreign}), []string{"usernames", "delete the secret and create it again"}},
		{"other strategy", "", "secrets/r/db", d("rotation_strategy", "single_user", "usernames", single), []string{"rotation_strategy", "create it again"}},
		{"other connection", "", "secrets/r/db", d("connection", "same"), []string{"connection", "create it again"}},
		{"update to unknown policy", "", "secrets/r/db", d("password_policy", "nosuch"), []string{"password_policy", "nosuch"}},
		{"delete a connection in use", logical.DeleteOperation, "connections/main", nil, []string{"name", "r/db", "delete those secrets first"}},
		{"managed user as administrator", "", "connections/main", d("username", users[0], "password", "some-password-1"), []string{"username", "secret db of role r", "user of its own"}},
		{"managed user as new administrator", "", "connections/new", but(s.described(), "username", users[1]), []string{"username", "secret db of role r"}},
	})
	if err := logIn(t, single, "anything"); err == nil {
		t.Error("a refused request gave a user a password")
	}
}

// member is a user who is a member of something.
func (s *server) member() string {
	name, group := s.user(), unique("group")
	s.sql("CREATE ROLE %s NOLOGIN; GRANT %s TO %s", group, group, name)
	return name
}

// TestPasswordMakerMisbehaves is about policies that exist and make what cannot
// be used.
func TestPasswordMakerMisbehaves(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.policy("lines", func() (string, error) { return "two\nlines-of-password", nil })
	m.policy("nothing", func() (string, error) { return "", nil })
	m.write("roles/r", nil)
	for _, policy := range []string{"lines", "nothing"} {
		m.refused(logical.UpdateOperation, "secrets/r/x", d("type", "database", "connection", "main", "usernames", s.user(), "password_policy", policy),
			"password_policy", policy)
	}
	m.refused(logical.UpdateOperation, "secrets/r/x", d("type", "random", "password_policy", "nothing"), "password_policy", "nothing")
	m.storage.note("what a policy made", "two\nlines-of-password")
}
