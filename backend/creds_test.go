package backend

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
)

// header is the names that every answer of creds has.
var header = []string{"last_vault_rotation", "next_vault_rotation", "rotation_period", "ttl", "version"}

func (m *mount) hasFields(data map[string]any, names ...string) {
	m.Helper()
	want := slices.Sorted(slices.Values(append(names, header...)))
	if got := slices.Sorted(maps.Keys(data)); !slices.Equal(got, want) {
		m.Errorf("got the fields %v, want %v", got, want)
	}
	for name, value := range data {
		m.hasType(name, value)
	}
}

// hasType is what DESIGN section 4 says: numbers for version, rotation_period and
// ttl, text for everything else, and null only for a rotation that is not planned.
func (m *mount) hasType(name string, value any) {
	m.Helper()
	switch value.(type) {
	case int, int64:
		if name == "version" || name == "rotation_period" || name == "ttl" {
			return
		}
	case string:
		if name != "version" && name != "rotation_period" && name != "ttl" {
			return
		}
	case nil:
		if name == "next_vault_rotation" {
			return
		}
	}
	m.Errorf("%s is a %T", name, value)
}

// TestCredsOutliveAFault has storage fail at the first read of what readers are told besides
// the role: they get values as soon as it works again, and not only with the next version.
func TestCredsOutliveAFault(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/r", d("rotation_period", "1h"))
	m.write("secrets/r/db", d("type", "database", "connection", "main", "usernames", s.user()))
	m.boot()
	m.read("status/r", nil)
	m.storage.FailGet(true)
	m.b.invalidate(t.Context(), "connection/main") // as on a standby after each change of it
	if resp, err := m.try(logical.ReadOperation, "creds/r", nil); err == nil {
		t.Errorf("while storage fails, creds answers %v", resp)
	}
	m.storage.FailGet(false)
	if creds := m.read("creds/r", nil); creds["db_password"] == nil {
		t.Errorf("creds answers %v", creds)
	}
}

func TestCredsBody(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/default", d("rotation_period", "1h", "overlap", "20m"))
	one, two := s.user(), s.pair()
	m.write("secrets/default/one", d("type", "database", "connection", "main", "usernames", one))
	m.write("secrets/default/two", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", two))
	m.write("secrets/default/jwt", d("type", "jwt", "algorithm", "HS512"))
	m.write("secrets/default/key", d("type", "api_key"))
	m.write("secrets/default/pin", d("type", "random"))
	login := []string{"connection_string", "database", "host", "password", "port", "ssl_root_certificate", "sslmode", "username"}
	before := map[string][]string{
		"one": login, "two": login, "jwt": {"algorithm", "kid", "secret"}, "key": {"key"}, "pin": {"value"},
	}
	m.bodies(before)
	m.write("rotate", nil)
	during := maps.Clone(before)
	during["jwt"] = []string{"algorithm", "kid", "secret", "previous_algorithm", "previous_kid", "previous_secret"}
	during["key"] = []string{"key", "previous_key"}
	m.bodies(during)
	m.clock.advance(20 * time.Minute) // the end of the overlap, though nobody has retired anything yet
	m.bodies(before)
}

// bodies checks the fields of each secret read alone and of all read together.
func (m *mount) bodies(secrets map[string][]string) {
	m.Helper()
	all, flat := m.read("creds", nil), []string{}
	for name, fields := range secrets {
		alone := m.read("creds/default/"+name, nil)
		m.hasFields(alone, fields...)
		for _, field := range fields {
			flat = append(flat, name+"_"+field)
			if all[name+"_"+field] != alone[field] {
				m.Errorf("%s_%s differs from %s of %s", name, field, field, name)
			}
		}
	}
	m.hasFields(all, flat...)
	if fmt.Sprint(m.read("creds/default", nil)) != fmt.Sprint(all) {
		m.Error("creds and creds/default differ")
	}
}

func TestCredsOfDatabase(t *testing.T) {
	m := newMount(t)
	s := m.connect()
	m.write("roles/r", d("rotation_period", "1h", "overlap", "20m"))
	one, two := s.user(), s.pair()
	m.write("secrets/r/one", d("type", "database", "connection", "main", "usernames", one))
	m.write("secrets/r/two", d("type", "database", "connection", "main", "rotation_strategy", "alternating_users", "usernames", two))
	first := m.read("creds/r", nil)
	m.write("rotate/r", nil)
	now, previous := m.read("creds/r", nil), m.read("creds/r", d("stage", "previous"))
	if now["two_username"] == first["two_username"] || now["one_username"] != first["one_username"] {
		t.Error("the wrong users take turns")
	}
	if previous["two_password"] != first["two_password"] || previous["one_password"] != nil {
		t.Error("the previous values offered are not the ones that work")
	}
	for _, name := range []string{"one", "two"} {
		if err := logIn(t, now[name+"_username"], now[name+"_password"]); err != nil {
			t.Errorf("the current login of %s: %v", name, err)
		}
		want := fmt.Sprintf("@%s:%d/postgres?sslmode=disable", pgtest.Shared.Host, pgtest.Shared.Port)
		if text := now[name+"_connection_string"].(string); !strings.HasSuffix(text, want) || now[name+"_port"] != fmt.Sprint(pgtest.Shared.Port) {
			t.Errorf("the connection string of %s ends otherwise than in %s", name, want)
		}
	}
	if err := logIn(t, previous["two_username"], previous["two_password"]); err != nil {
		t.Errorf("the previous login: %v", err)
	}
	m.refused(logical.ReadOperation, "creds/r/one", d("stage", "previous"), "stage", "no previous value that works", "single_user")
	m.clock.advance(20 * time.Minute)
	m.refused(logical.ReadOperation, "creds/r/two", d("stage", "previous"), "stage", "overlap has ended")
	m.tick(0)
	m.eventually("the retirement", func() bool { return logIn(t, previous["two_username"], previous["two_password"]) != nil })
}

func TestIfVersion(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/pin", d("type", "random"))
	for _, path := range []string{"creds/r", "creds/r/pin"} {
		same := m.read(path, d("if_version", 1))
		if same["changed"] != false || same["pin_value"] != nil || same["value"] != nil {
			t.Errorf("%s of the same version answers %v", path, slices.Collect(maps.Keys(same)))
		}
		delete(same, "changed")
		m.hasFields(same)
		other := m.read(path, d("if_version", "7"))
		if other["changed"] != true || (other["pin_value"] == nil && other["value"] == nil) {
			t.Errorf("%s of another version answers %v", path, slices.Collect(maps.Keys(other)))
		}
	}
}

// TestNothingVaries reads over a whole interval: only ttl may differ, also where
// intervals are of different lengths, or Vault Secrets Operator restarts pods.
func TestNothingVaries(t *testing.T) {
	for _, schedule := range []map[string]any{
		d("rotation_period", "24h"), d("rotation_schedule", "0 3 1 * *"), d("rotation_schedule", "15 4 * * 1,2", "rotation_window", "1h"), d("auto_rotate", false),
	} {
		m := newMount(t)
		m.write("roles/r", schedule)
		m.write("secrets/r/jwt", d("type", "jwt"))
		m.b.stop() // nothing rotates by itself meanwhile, however late
		first := m.read("creds/r", nil)
		for range 30 {
			m.clock.advance(time.Hour)
			again := m.read("creds/r", nil)
			again["ttl"] = first["ttl"]
			if fmt.Sprint(again) != fmt.Sprint(first) {
				t.Fatalf("with %v, creds varies between rotations", schedule)
			}
		}
	}
}

func TestHeader(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_schedule", "0 3 1 * *"))
	m.write("secrets/r/jwt", d("type", "jwt"))
	data := m.read("creds/r", nil)
	// From 1 March, 12:00: the interval is that from 1 April to 1 May.
	if data["rotation_period"] != int64(30*24*3600) || data["last_vault_rotation"] != "2026-03-01T12:00:00Z" {
		t.Errorf("the header is %v, %v", data["rotation_period"], data["last_vault_rotation"])
	}
	next, err := time.Parse(time.RFC3339, data["next_vault_rotation"].(string))
	if at := time.Date(2026, 4, 1, 3, 0, 0, 0, time.UTC); err != nil || next.Before(at) || next.Sub(at) > 30*time.Second {
		t.Errorf("the next rotation is at %v", data["next_vault_rotation"])
	}
}
