package postgres_test

import (
	"slices"
	"testing"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestWaysAreKeptWhileInUse changes the way again and again: those that values have
// stay known, and one that comes back has the number that it had.
func TestWaysAreKeptWhileInUse(t *testing.T) {
	at := func(c postgres.Settings, host string, inUse ...int) postgres.Settings {
		t.Helper()
		changed := c
		changed.Host = host
		used := map[int]bool{}
		for _, number := range inUse {
			used[number] = true
		}
		moved, err := changed.Moved(c, used)
		expect.OK(t, err)
		return moved
	}
	hosts := func(c postgres.Settings, numbers ...int) (hosts []string) {
		for _, number := range numbers {
			way, err := c.WayOf(postgres.OnWay(rotation.Material{"username": "u"}, number))
			if err != nil {
				way.Host = "unknown"
			}
			hosts = append(hosts, way.Host)
		}
		return hosts
	}
	c := postgres.Settings{Config: postgres.Config{Host: "a", Database: "d"}}
	if same := at(c, "a"); same.WayNumber != 0 || len(same.EarlierWays) != 0 {
		t.Errorf("the same way has the number %d", same.WayNumber)
	}
	b := at(c, "b", 0)
	third := at(b, "c", 0, 1)
	if got, want := hosts(third, 0, 1, 2, 3), []string{"a", "b", "c", "unknown"}; !slices.Equal(got, want) {
		t.Errorf("the ways are %v, want %v", got, want)
	}
	back := at(third, "a", 0)
	if got, want := hosts(back, back.WayNumber, 0, 1, 2), []string{"a", "a", "unknown", "c"}; !slices.Equal(got, want) {
		t.Errorf("back again the ways are %v, want %v", got, want)
	}
	next := at(back, "e")
	if got, want := hosts(next, next.WayNumber, 0, 2), []string{"e", "a", "unknown"}; !slices.Equal(got, want) || next.WayNumber != 3 {
		t.Errorf("number %d follows, and the ways are %v, want %v", next.WayNumber, got, want)
	}
}

// TestTheWayIsAllThatApplicationsNeed changes each thing that a login of an
// application depends on, which is another way, and each that it does not.
func TestTheWayIsAllThatApplicationsNeed(t *testing.T) {
	c := postgres.Settings{Config: postgres.Config{Host: "a", Database: "d"}}
	for name, change := range map[string]func(*postgres.Settings){
		"host":                   func(c *postgres.Settings) { c.Host = "b" },
		"port":                   func(c *postgres.Settings) { c.Port = 1 },
		"database":               func(c *postgres.Settings) { c.Database = "e" },
		"sslmode":                func(c *postgres.Settings) { c.SSLMode = "disable" },
		"tls_ca":                 func(c *postgres.Settings) { c.TLSCA = "x" },
		"application_host":       func(c *postgres.Settings) { c.ApplicationHost = "b" },
		"application_port":       func(c *postgres.Settings) { c.ApplicationPort = 1 },
		"application_parameters": func(c *postgres.Settings) { c.ApplicationParameters = map[string]string{"connect_timeout": "1"} },
	} {
		changed := c
		change(&changed)
		if moved, err := changed.Moved(c, nil); err != nil || moved.WayNumber != 1 {
			t.Errorf("with another %s it is way %d (%v)", name, moved.WayNumber, err)
		}
	}
	for name, change := range map[string]func(*postgres.Settings){
		"allowed_roles":        func(c *postgres.Settings) { c.AllowedRoles = []string{"x"} },
		"max_open_connections": func(c *postgres.Settings) { c.MaxOpenConnections = 2 },
		"default port":         func(c *postgres.Settings) { c.Port = 5432 },
		"the same as a URL": func(c *postgres.Settings) {
			c.Config = postgres.Config{ConnectionURL: "postgresql://a/d?sslmode=verify-full"}
		},
	} {
		changed := c
		change(&changed)
		if moved, err := changed.Moved(c, nil); err != nil || moved.WayNumber != 0 {
			t.Errorf("with another %s it is way %d (%v)", name, moved.WayNumber, err)
		}
	}
}
