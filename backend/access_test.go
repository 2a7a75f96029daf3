package backend

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
)

// TestAllowedRoles lets only those use a connection whom it is for, and only for
// what it says.
func TestAllowedRoles(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/orders", nil)
	m.write("roles/shop", nil)
	own, other := s.user(), s.user()
	add := func(more ...any) map[string]any {
		return but(d("type", "database", "connection", "narrow", "usernames", own), more...)
	}
	described := s.described()
	delete(described, "allowed_roles")
	delete(described, "allow_rotation_statements")
	m.write("connections/narrow", described)
	const create = logical.UpdateOperation
	m.refused(create, "secrets/orders/db", add(), "connection", `"narrow" is not for role orders`, "vault write smvm/connections/narrow allowed_roles='orders'")
	m.write("connections/narrow", d("allowed_roles", "shop,ord*", "allowed_usernames", own))
	m.refused(create, "secrets/orders/db", add("usernames", other), "usernames", other, "allowed_usernames='"+own+","+other+"'")
	m.refused(create, "secrets/orders/db", add("usernames", s.admin), "usernames")
	statement := []any{"ALTER ROLE {{username}} PASSWORD {{password}}"}
	m.refused(create, "secrets/orders/db", add("rotation_statements", statement), "rotation_statements", "vault write smvm/connections/narrow allow_rotation_statements=true")
	m.write("secrets/orders/db", add())
	m.refused(create, "secrets/orders/db", d("rotation_statements", statement), "rotation_statements", "allow_rotation_statements=true")

	m.refused(create, "connections/narrow", d("allowed_roles", "shop"), "allowed_roles", "leaves out orders", "orders/db")
	m.refused(create, "connections/narrow", d("allowed_roles", ""), "allowed_roles", "leaves out orders")
	m.refused(create, "connections/narrow", d("allowed_usernames", other), "allowed_usernames", "leaves out", own)
	m.write("connections/narrow", d("allow_rotation_statements", true))
	m.write("secrets/orders/db", d("rotation_statements", statement))
	m.refused(create, "connections/narrow", d("allow_rotation_statements", false), "allow_rotation_statements", "orders/db", "rotation_statements")
	m.write("rotate/orders", nil)

	m.delete("secrets/orders/db")
	m.write("connections/narrow", d("allowed_roles", "shop", "allow_rotation_statements", false))
	read := m.read("connections/narrow", nil)
	if roles := read["allowed_roles"].([]string); len(roles) != 1 || roles[0] != "shop" || read["allow_rotation_statements"] != false {
		t.Errorf("the connection is %v", read)
	}
	m.refused(create, "secrets/orders/db", add(), "is not for role orders", "allowed_roles='shop,orders'")
}

// TestAllowingNamesNobodyElse has an operator name users whose names would make of the
// command, which an administrator of the mount is to run, one that allows others.
func TestAllowingNamesNobodyElse(t *testing.T) {
	m := newMount(t)
	m.write("connections/narrow", d("host", "192.0.2.1", "database", "orders", "username", "u", "password", "password-0123456789", "verify_connection", false,
		"allowed_roles", "orders", "allowed_usernames", "orders_a"))
	m.write("roles/orders", nil)
	for name, want := range map[string]string{
		"orders_b":               "runs: vault write smvm/connections/narrow allowed_usernames='orders_a,orders_b'",
		"it's":                   "as a list in JSON",
		"orders_\u202e,b":        "as a list in JSON",
		"orders_b,orders_c":      "as a list in JSON",
		"\u3164":                 "as a list in JSON",
		"orders_*":               "use another name",
		"orders_\u202eb,orders*": "use another name",
	} {
		described := d("type", "database", "connection", "narrow", "usernames", []any{name})
		m.refused(logical.UpdateOperation, "secrets/orders/db", described, "usernames", "allowed_usernames", want)
		if resp, _ := m.try(logical.UpdateOperation, "secrets/orders/db", described); !strings.HasPrefix(want, "runs") && strings.Contains(resp.Error().Error(), "vault write") {
			t.Errorf("%q: %v", name, resp.Error())
		}
	}
}

// TestNoWayAroundAllowedRoles tries what might widen a connection without its
// administrator.
func TestNoWayAroundAllowedRoles(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("connections/main", d("allowed_roles", "shop", "allowed_usernames", "shop_*"))
	for _, role := range []string{"sho", "shopp", "Shop", "shop-x", "xshop", "default"} {
		m.write("roles/"+role, nil)
		m.refused(logical.UpdateOperation, "secrets/"+role+"/db", d("type", "database", "connection", "main", "usernames", s.user()), "is not for role "+role)
		m.delete("roles/" + role)
	}
	m.write("roles/shop", nil)
	for _, users := range []any{s.user(), []any{"shop_a", s.user()}, "postgres", "shop", s.admin, "SHOP_a", " shop_a"} {
		m.refused(logical.UpdateOperation, "secrets/shop/db", d("type", "database", "connection", "main", "usernames", users), "usernames")
	}
}

// TestNoWayAroundByAnotherAddress tries the users that have an owner at a server by
// another address of it: the administrators of connections, and those that secrets of
// other roles manage.
func TestNoWayAroundByAnotherAddress(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	managed := s.user()
	m.write("roles/orders", nil)
	m.write("secrets/orders/db", d("type", "database", "connection", "main", "usernames", managed))
	m.write("roles/mallory", nil)
	for i, host := range []string{"::ffff:127.0.0.1", "localhost", "LOCALHOST"} {
		if host == pgtest.Shared.Host {
			continue
		}
		alias, admin := unique("alias"), unique("admin")
		s.sql("CREATE ROLE %s LOGIN SUPERUSER PASSWORD 'x'", admin)
		m.write("connections/"+alias, but(s.described(), "host", host, "username", admin, "password", "x"))
		path := fmt.Sprintf("secrets/mallory/db%d", i)
		for _, username := range []string{s.admin, managed} {
			m.refused(logical.UpdateOperation, path, d("type", "database", "connection", alias, "usernames", username), "usernames", username, "main")
		}
		m.write(path, d("type", "database", "connection", alias, "usernames", s.user()))
	}
	if report := m.read("verify/orders", nil); report["valid"] != true {
		t.Errorf("the user that is managed already is %v", report)
	}
	m.write("rotate-root/main", nil)
}

// TestConnectionOfBefore keeps the roles of a connection that was made before it could
// say whom it is for, and tells what to write.
func TestConnectionOfBefore(t *testing.T) {
	eachFixture(t, func(m *mount, _ answers) {
		m.boot()
		refused := func(path string, data map[string]any, words ...string) {
			t.Helper()
			resp, err := m.try(logical.UpdateOperation, path, data)
			if err != nil || resp == nil || !resp.IsError() {
				t.Fatalf("%s answers %v, %v", path, resp, err)
			}
			m.mentions(resp.Error(), words...)
		}
		if advice := m.read("status/orders", nil)["advice"].(string); !strings.Contains(advice, "should write allowed_roles=orders,… to connections/main") {
			t.Errorf("the advice is %q", advice)
		}
		m.write("roles/new", nil)
		refused("secrets/new/db", d("type", "database", "connection", "main", "usernames", "somebody"), "is not for role new", "allowed_roles='new'")
		refused("secrets/orders/more", d("type", "database", "connection", "main", "usernames", "somebody"), "is not for role orders", "allowed_roles='orders'")
		m.write("connections/main", d("connect_timeout", "2s", "verify_connection", false))
		if advice := m.read("status/orders", nil)["advice"].(string); advice == "" {
			t.Error("another field was written, and the advice is gone")
		}
		refused("connections/main", d("allowed_roles", "orders", "verify_connection", false), "allowed_roles", "leaves out")
		refused("connections/main", d("allowed_roles", "*", "verify_connection", false), "allow_rotation_statements", "legacy/db")
		m.write("connections/main", d("allowed_roles", "*", "allow_rotation_statements", true, "verify_connection", false))
		if advice := m.read("status/orders", nil)["advice"]; advice != "" {
			t.Errorf("the advice is still %q", advice)
		}
	})
}

// TestApplicationsWay tells applications another address and other parameters than
// the engine uses.
func TestApplicationsWay(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	s.orders()
	was := m.read("creds/r/one", nil)
	if was["sslmode"] != "disable" || was["ssl_root_certificate"] != "" || !strings.HasSuffix(was["connection_string"].(string), "?sslmode=disable") {
		t.Errorf("creds answers sslmode %v in %v", was["sslmode"], was["connection_string"])
	}
	m.write("connections/main", d("application_host", "pooler.example.com", "application_port", 6432,
		"application_parameters", map[string]any{"sslmode": "require", "target_session_attrs": "read-write", "connect_timeout": "5"}))
	m.eventually("the way of applications", func() bool { return m.read("creds/r/one", nil)["host"] == "pooler.example.com" })
	now := m.read("creds/r/one", nil)
	want := "@pooler.example.com:6432/postgres?sslmode=require&connect_timeout=5&target_session_attrs=read-write"
	if now["port"] != "6432" || now["sslmode"] != "require" || !strings.HasSuffix(now["connection_string"].(string), want) {
		t.Errorf("creds answers %v, %v, %v", now["port"], now["sslmode"], now["connection_string"])
	}
	m.write("rotate/r", nil) // the engine itself goes on to use its own
	for field, value := range map[string]any{
		"application_host": "a/b", "application_port": 70000,
	} {
		m.refused(logical.UpdateOperation, "connections/main", d(field, value), field)
	}
	for name, value := range map[string]string{
		"host": "evil", "password": "x", "user": "x", "service": "x", "sslrootcert": "/x", "passfile": "/x", "sslmode": "prefer", "Bad-Name": "x", "options": "a\nb",
	} {
		m.refused(logical.UpdateOperation, "connections/main", d("application_parameters", map[string]any{name: value}), "application_parameters")
	}
	m.write("connections/main", d("application_parameters", ""))
	if left := m.read("connections/main", nil)["application_parameters"]; len(left.(map[string]string)) > 0 {
		t.Errorf("an empty field leaves %v", left)
	}
}
