package backend

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// eachFixture runs a test on the storage of every version there is one of.
func eachFixture(t *testing.T, test func(*mount, answers)) {
	dirs, err := filepath.Glob("testdata/v*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("there are no fixtures: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			m := unbooted(t)
			m.load(dir)
			raw, err := os.ReadFile(filepath.Join(dir, "answers.json"))
			if err != nil {
				t.Fatal(err)
			}
			var want answers
			decoder := json.NewDecoder(bytes.NewReader(raw))
			decoder.UseNumber()
			if err := decoder.Decode(&want); err != nil {
				t.Fatal(err)
			}
			m.clock = &clock{t: want.Written}
			test(m, want)
		})
	}
}

// load fills the storage with the files of a fixture, byte by byte.
func (m *mount) load(dir string) {
	m.Helper()
	files := os.DirFS(filepath.Join(dir, "storage"))
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		value, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		return m.storage.Put(m.Context(), &logical.StorageEntry{Key: strings.TrimSuffix(path, ".json"), Value: value})
	})
	if err != nil {
		m.Fatal(err)
	}
}

// TestFixturesAreRead boots on the storage of earlier versions: everything is
// read, applications get what they got, and what was at rest is left at rest.
func TestFixturesAreRead(t *testing.T) {
	eachFixture(t, func(m *mount, want answers) {
		before := m.storage.contents(t)
		m.boot()
		resp, err := m.try(logical.ListOperation, "roles", nil)
		info := m.must(resp, err)["key_info"].(map[string]any)
		for name, about := range info {
			if problem := about.(map[string]any)["error"]; problem != nil {
				t.Errorf("role %s: %v", name, problem)
			}
			m.wholeHistory("history/" + name)
		}
		m.wholeHistory("connections/main/history")
		for role, creds := range want.Creds {
			m.sameCreds(role, creds)
		}
		m.recovers("local", 3)
		m.recovers("retiring", 2)
		m.tick(time.Second)
		after := m.storage.contents(t)
		for role := range want.Creds {
			if key := roles.Prefix + role; after[key] != before[key] {
				t.Errorf("%s was changed", key)
			}
		}
		if strings.Contains(m.said.text(), "cannot be read") {
			t.Error("the log complains")
		}
	})
}

func (m *mount) wholeHistory(path string) {
	m.Helper()
	if h := m.read(path, nil); h["chain_valid"] != true || h["count"] == 0 {
		m.Errorf("%s is %v", path, h)
	}
}

// sameCreds compares what creds answers now; more fields than there were are fine.
func (m *mount) sameCreds(role string, want map[string]any) {
	m.Helper()
	got := m.read("creds/"+role, nil)
	for field, value := range want {
		if fmt.Sprint(got[field]) != fmt.Sprint(value) {
			m.Errorf("creds/%s answers another %s", role, field)
		}
	}
}

// recovers waits until nothing is in flight any more, and expects that version.
func (m *mount) recovers(role string, version int) {
	m.Helper()
	m.eventually("recovery of "+role, func() bool {
		m.tick(time.Second)
		status := m.read("status/"+role, nil)
		return status["in_flight"] == nil && status["unresolved"] == nil
	})
	for _, id := range slices.Backward(m.list("history/" + role)) {
		rec := m.read("history/"+role+"/"+id, nil)
		if rec["kind"] == "move" {
			continue // which may follow as soon as it has recovered
		}
		if rec["trigger"] != "recovery" || fmt.Sprint(rec["version"]) != fmt.Sprint(version) {
			m.Errorf("role %s, which recovers at version %d, has the last record %v", role, version, rec)
		}
		return
	}
}

// TestFixturesGoOn gives the fixtures a PostgreSQL that accepts what their values
// say, and goes on from there: recovery, rotations, versions.
func TestFixturesGoOn(t *testing.T) {
	eachFixture(t, func(m *mount, _ answers) {
		s := &server{mount: m, pg: pgtest.Shared, admin: "fixture_admin"}
		s.fixtureUsers()
		m.boot()
		m.eventually("the first attempts to recover", func() bool {
			forward, back := m.read("status/forward", nil), m.read("status/back", nil)
			return forward["unresolved"] != nil && forward["in_flight"] == nil && back["unresolved"] != nil && back["in_flight"] == nil
		})
		m.write("connections/main", d("host", pgtest.Shared.Host, "port", pgtest.Shared.Port, "connect_timeout", 30))
		// Put back, and told where the server is since.
		m.recovers("forward", 3)
		m.recovers("back", 2)
		m.within(50*time.Second, "that readers are told where the server is", func() bool {
			return m.toldWhere("orders", "legacy", "forward", "back")
		})
		for _, role := range m.list("roles") {
			version := m.read("status/"+role, nil)["version"].(int)
			if role == "tired" {
				m.write("secrets/tired/pin", d("password_policy", ""))
			}
			if answer := m.write("rotate/"+role, nil); answer["version"] != version+1 {
				t.Errorf("rotating %s, of version %d, answers %v", role, version, answer)
			}
			m.wholeHistory("history/" + role)
			if creds := m.read("creds/"+role, nil); creds["db_username"] != nil {
				if err := logIn(t, creds["db_username"], creds["db_password"]); err != nil {
					t.Errorf("role %s: %v", role, err)
				}
			}
			if report := m.read("verify/"+role, nil); report["valid"] != true {
				t.Errorf("verify/%s answers %v", role, report)
			}
		}
		m.write("roles/gone", nil)
		if answer := m.write("secrets/gone/jwt", d("type", "jwt")); answer["version"].(int) <= 3 {
			t.Errorf("a role that was deleted at version 3 begins again: %v", answer)
		}
		m.wholeHistory("history/gone")
		m.write("rotate-root/main", nil)
		m.wholeHistory("connections/main/history")
	})
}

// toldWhere reports whether readers of all these roles are told where the server is.
func (m *mount) toldWhere(roles ...string) bool {
	m.Helper()
	for _, role := range roles {
		if m.read("creds/"+role, nil)["db_port"] != fmt.Sprint(pgtest.Shared.Port) {
			return false
		}
	}
	return true
}

// fixtureUsers makes the users of a fixture, with the passwords that its states
// know: the pending one for the role forward, no pending one for others.
func (s *server) fixtureUsers() {
	s.Helper()
	passwords := map[string]string{"fixture_a": "", "fixture_b": "", "fixture_c": "", "fixture_d": ""}
	for key, value := range s.storage.contents(s.T) {
		state, err := rotation.Decode([]byte(value))
		if err != nil || strings.HasPrefix(key, historyPrefix) {
			continue
		}
		for _, secret := range state.Secrets {
			values := []*rotation.Value{secret.PreviousAt(s.clock.now()), secret.Current}
			if key == "role/forward" {
				values = append(values, secret.Pending)
			}
			for _, v := range values {
				if v != nil && v.Material["username"] != "" {
					passwords[v.Material["username"]] = v.Material["password"]
				}
			}
		}
	}
	names := []string{"fixture_owner", s.admin}
	for name := range passwords {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	s.sql("DROP ROLE IF EXISTS %s; CREATE ROLE fixture_owner NOLOGIN; CREATE ROLE %s LOGIN CREATEROLE PASSWORD '%s'",
		strings.Join(names, ", "), s.admin, passwords[s.admin])
	for _, name := range names[2:] {
		s.sql("CREATE ROLE %s LOGIN IN ROLE fixture_owner", name)
		if passwords[name] != "" {
			s.sql("ALTER ROLE %s PASSWORD '%s'", name, passwords[name])
		}
		if s.pg.Version >= 160000 {
			s.sql("GRANT %s TO %s WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", name, s.admin)
		}
	}
}

// TestFixturesKeepTheirSchedule moves the clock to just before the time that was
// stored for the next rotation, and then to it.
func TestFixturesKeepTheirSchedule(t *testing.T) {
	eachFixture(t, func(m *mount, want answers) {
		next, err := time.Parse(time.RFC3339, fmt.Sprint(want.Creds["weekly"]["next_vault_rotation"]))
		if err != nil {
			t.Fatal(err)
		}
		m.clock = &clock{t: next.Add(-time.Hour)}
		m.boot()
		m.version("weekly") // it is loaded, and readers could read
		m.clock.advance(time.Hour - time.Second)
		m.eventually("the end of the overlap", func() bool {
			m.tick(0)
			return m.read("status/weekly", nil)["secrets"].(map[string]any)["jwt"].(map[string]any)["previous"] == nil
		})
		if got := m.read("status/weekly", nil); got["version"] != 2 || got["next_vault_rotation"] != want.Creds["weekly"]["next_vault_rotation"] {
			t.Errorf("before its time the role is %v", got)
		}
		m.tick(time.Second)
		m.becomes("weekly", 3)
		if got := m.read("status/manual", nil); got["version"] != 2 {
			t.Errorf("the role that is rotated by hand is %v", got)
		}
	})
}
