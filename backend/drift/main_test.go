package drift

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/connections"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt"
)

func TestMain(m *testing.M) { pgtest.Main(m, testenv.PostgresOptions{}) }

var counter atomic.Int64

// unique returns a name that no other test uses.
func unique(name string) string { return fmt.Sprintf("%s_%d", name, counter.Add(1)) }

// stored is a storage that has what a test begins with, and takes everything.
type stored map[string]*rotation.State

// Load implements rotation.Store.
func (s stored) Load(_ context.Context, key string) (*rotation.State, error) { return s[key], nil }

func (stored) Save(context.Context, string, *rotation.State) error                   { return nil }
func (stored) Append(context.Context, string, rotation.Entry) error                  { return nil }
func (stored) Entry(context.Context, string, int) (*rotation.Entry, error)           { return nil, nil }
func (stored) DeleteEntries(context.Context, string, int) error                      { return nil }
func (stored) List(context.Context, string) (names []string, err error)              { return nil, nil }
func (stored) Do(_ context.Context, _ *rotation.Role, t rotation.Task) rotation.Task { return t }

// Plan implements rotation.Hooks: there are none.
func (stored) Plan(context.Context, *rotation.Role, rotation.Operation) ([]rotation.Task, error) {
	return nil, nil
}

// server is the shared PostgreSQL as the connection "main", by an administrator of its
// own, with roles that use it.
type server struct {
	*testing.T
	stored   stored
	admin    postgres.Login
	registry *roles.Registry
	ports    Ports
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{T: t, stored: stored{}, admin: postgres.Login{Username: unique("admin"), Password: "first-" + uuid.NewString()}}
	s.sql("CREATE ROLE %s LOGIN CREATEROLE PASSWORD '%s'", s.admin.Username, s.admin.Password)
	settings := postgres.Settings{Config: postgres.Config{Host: pgtest.Shared.Host, Port: pgtest.Shared.Port, Database: "postgres", SSLMode: "disable"}}
	postgres := postgres.New(
		func(string) (postgres.Connection, error) {
			return postgres.Connection{Settings: settings, Logins: []postgres.Login{s.admin}}, nil
		},
		func(context.Context, string, string) (postgres.Owner, error) {
			return postgres.Owner{Mount: "here"}, nil
		},
	)
	t.Cleanup(postgres.Close)
	managed := connections.New(connections.Ports{}).Managed
	engine := &rotation.Engine{
		Store: s.stored, Drivers: map[string]rotation.Driver{connections.Type: database.NewAdmin(postgres), database.TypeName: database.New(postgres, nil), "jwt": jwt.New()}, Context: t.Context(),
		Now: time.Now, NewID: uuid.NewString, Settings: func() rotation.Settings { return rotation.Settings{} },
		Changed: managed.Note, Recorded: func(*rotation.Role, rotation.Record, rotation.Entry) {}, Hooks: s.stored,
	}
	s.registry = roles.New(engine, s.stored.List)
	s.ports = Ports{
		Roles: s.registry, Users: managed, Engine: engine, Identity: postgres.Identity, Changed: func(*rotation.Role) {},
		Settings: func(context.Context) (Settings, error) { return Settings{Interval: time.Hour}, nil },
		Log:      func() hclog.Logger { return hclog.New(&hclog.LoggerOptions{Output: t.Output()}) },
	}
	material, err := database.ImportAdmin(s.admin.Username, s.admin.Password)
	if err != nil {
		t.Fatal(err)
	}
	config, _ := json.Marshal(settings)
	s.load(roles.ConnectionPrefix, "main", map[string]*rotation.Secret{connections.Admin: {
		Name: connections.Admin, Type: connections.Type, Config: config, Current: &rotation.Value{Version: 1, Material: material},
	}})
	return s
}

// load makes a role, or connection, of what is stored.
func (s *server) load(prefix, name string, secrets map[string]*rotation.Secret) *rotation.Role {
	s.Helper()
	s.stored[prefix+name] = &rotation.State{Schema: rotation.Schema, Secrets: secrets}
	r, err := s.registry.Get(s.Context(), prefix, name)
	if err != nil {
		s.Fatal(err)
	}
	return r
}

// role makes a role without secrets.
func (s *server) role(name string) *rotation.Role {
	s.Helper()
	return s.load(roles.Prefix, name, map[string]*rotation.Secret{})
}

// create gives a role a secret.
func (s *server) create(r *rotation.Role, name, typeName string, config any) {
	s.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		s.Fatal(err)
	}
	s.done(s.start(r, rotation.Request{Kind: rotation.KindCreate, Added: &rotation.Secret{Name: name, Type: typeName, Config: text}}))
}

// login gives a role a secret whose values are logins of the users.
func (s *server) login(r *rotation.Role, name string, users []string, verification ...string) {
	s.Helper()
	s.create(r, name, database.TypeName, database.Config{Connection: "main", Usernames: users, VerificationStatements: verification})
}

func (s *server) start(r *rotation.Role, request rotation.Request) *rotation.Run {
	s.Helper()
	request.Trigger = rotation.TriggerManual
	run, err := r.Start(s.Context(), request)
	if err != nil {
		s.Fatal(err)
	}
	return run
}

func (s *server) done(run *rotation.Run) {
	s.Helper()
	<-run.Done()
	if _, err := run.Result(); err != nil {
		s.Fatal(err)
	}
}

// sql runs statements as the superuser.
func (s *server) sql(format string, args ...any) {
	s.Helper()
	if err := pgtest.Shared.Exec(context.Background(), fmt.Sprintf(format, args...)); err != nil {
		s.Fatal(err)
	}
}

// changed has the password of a role's current login changed by hand, and returns that.
func (s *server) changed(r *rotation.Role) postgres.Login {
	s.Helper()
	login := postgres.LoginOf(r.Snapshot().Secrets["db"].Current)
	s.sql("ALTER ROLE %s PASSWORD 'changed-by-hand'", login.Username)
	return login
}

// user creates a user that the administrator may manage.
func (s *server) user() string {
	s.Helper()
	name := unique("app")
	s.sql("CREATE ROLE %s LOGIN", name)
	if pgtest.Shared.Version >= 160000 {
		s.sql("GRANT %s TO %s WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", name, s.admin.Username)
	}
	return name
}

// pair is two users that own things together.
func (s *server) pair() []string {
	s.Helper()
	owner, a, b := unique("owner"), s.user(), s.user()
	s.sql("CREATE ROLE %s NOLOGIN; GRANT %s TO %s, %s", owner, owner, a, b)
	return []string{a, b}
}
