package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// shared is the server that most tests use, each with roles of its own. It
// offers TLS and does not demand it.
var shared *testenv.Postgres

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	shared, err = testenv.StartPostgres(context.Background(), testenv.Unsynced(testenv.PostgresOptions{
		TLS: true,
		HBA: []string{
			"host all md5_user 127.0.0.1/32 md5",
			"host all cleartext_user 127.0.0.1/32 password",
			"host all trusted_user 127.0.0.1/32 trust",
		},
	}))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		for _, pg := range append(slices.Collect(maps.Values(majors.started)), shared) {
			if err := pg.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	return m.Run()
}

// majors are servers by their version, started when a test first asks for one.
var majors = struct {
	sync.Mutex
	started map[int]*testenv.Postgres
}{started: map[int]*testenv.Postgres{}}

// ofMajor is a server that tests share, which leave it as it is but for roles and
// databases of their own.
func ofMajor(t testing.TB, major int) *testenv.Postgres {
	t.Helper()
	majors.Lock()
	defer majors.Unlock()
	if majors.started[major] == nil {
		pg, err := testenv.StartPostgres(t.Context(), testenv.Unsynced(testenv.PostgresOptions{Major: major}))
		must(t, err)
		majors.started[major] = pg
	}
	return majors.started[major]
}

var counter atomic.Int64

// unique returns a name that no other test uses.
func unique(name string) string { return fmt.Sprintf("%s_%d", name, counter.Add(1)) }

// bench is a server with an administrator who has no privileges, and a Postgres
// that knows it as connection "main".
type bench struct {
	t          testing.TB
	pg         *testenv.Postgres
	postgres   *Postgres
	admin      Login
	connection Connection
	now        time.Time
	owner      Owner
}

func newBench(t testing.TB, pg *testenv.Postgres) *bench {
	t.Helper()
	b := &bench{t: t, pg: pg, admin: Login{unique("admin"), randomPassword()}, now: time.Now(), owner: Owner{Mount: "here", Path: "smvm/", Role: "r", Secret: "s"}}
	b.sql("CREATE ROLE %s LOGIN PASSWORD %s", quoteName(b.admin.Username), quoteLiteral(b.admin.Password))
	b.connection = Connection{Config: ConnectionSettings{ConnectionConfig: b.config()}, Logins: []Login{b.admin}}
	b.postgres = NewPostgres(func(name string) (Connection, error) {
		if name != "main" {
			return Connection{}, errors.New("no such connection")
		}
		return b.connection, nil
	}, b.owners)
	b.postgres.Now = func() time.Time { return b.now }
	t.Cleanup(b.postgres.Close)
	return b
}

func (b *bench) owners(context.Context, string, string) (Owner, error) { return b.owner, nil }

func (b *bench) config() ConnectionConfig {
	return ConnectionConfig{Host: b.pg.Host, Port: b.pg.Port, Database: "postgres", SSLMode: "disable"}
}

// sql runs statements as the superuser.
func (b *bench) sql(format string, args ...any) {
	b.t.Helper()
	if err := b.pg.Exec(context.Background(), fmt.Sprintf(format, args...)); err != nil {
		b.t.Fatal(err)
	}
}

// user creates a user whom the administrator may give passwords.
func (b *bench) user(name string) string {
	b.t.Helper()
	b.sql("DROP ROLE IF EXISTS %[1]s; CREATE ROLE %[1]s LOGIN", quoteName(name))
	b.permit(name)
	return name
}

func (b *bench) permit(name string) {
	b.t.Helper()
	admin := quoteName(b.admin.Username)
	b.sql("ALTER ROLE %s CREATEROLE", admin)
	if b.pg.Version >= 160000 {
		b.sql("GRANT %s TO %s WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", quoteName(name), admin)
	}
}

func connect(t testing.TB, pg *testenv.Postgres) *pgx.Conn {
	t.Helper()
	conn, err := pg.Connect(t.Context(), "postgres", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// database returns the type and a secret without any value.
func (b *bench) database(c DatabaseConfig) (*database, rotation.Secret) {
	c.Connection = "main"
	return &database{postgres: b.postgres, passwords: policies{}}, secretOf(b.t, "database", c)
}

func secretOf(t testing.TB, name string, config any) rotation.Secret {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return rotation.Secret{Name: "s", Type: name, Config: data}
}

func (b *bench) value(m rotation.Material) *rotation.Value {
	return &rotation.Value{Material: m, Version: 1, Created: b.now}
}

// policies stands for Vault: the name of a policy is what it makes, with a
// number behind it.
type policies struct{}

func (policies) Generate(ctx context.Context, policy string) (string, error) {
	if policy == "missing" {
		return "", errors.New("no password policy found")
	}
	return fmt.Sprintf("%s%d", policy, counter.Add(1)), ctx.Err()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantRefused(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, rotation.ErrRefused) {
		t.Fatalf("got %v, want a refusal", err)
	}
}

// wantInvalid checks that the request is called invalid, with these words.
func wantInvalid(t testing.TB, err error, words ...string) {
	t.Helper()
	if !errors.Is(err, rotation.ErrInvalid) {
		t.Fatalf("got %v, want an invalid request", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not mention %q", err, word)
		}
	}
}

// wantSecretFree checks that a text shows nothing of the materials.
func wantSecretFree(t testing.TB, text string, materials ...rotation.Material) {
	t.Helper()
	for _, m := range materials {
		for field, content := range maps.All(m) {
			switch field {
			case "password", "verifier", "secret", "key", "value", "private_key":
				if strings.Contains(text, content) {
					t.Errorf("a text shows the %s: %s", field, text)
				}
			}
		}
	}
}
