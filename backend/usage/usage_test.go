package usage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/apikey"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// world is what the ports show.
type world struct {
	testing.TB
	*Usage
	roles    map[string]*rotation.Role
	store    *memory
	sessions func(ctx context.Context, connection string, usernames []string) (map[string]postgres.Sessions, error)
}

// Loaded implements Ports.Roles.
func (w *world) Loaded() (all []*rotation.Role) {
	for _, r := range w.roles {
		all = append(all, r)
	}
	return all
}

// Known implements Ports.Roles.
func (w *world) Known(key string) *rotation.Role {
	return w.roles[strings.TrimPrefix(key, roles.Prefix)]
}

func newWorld(t testing.TB) *world {
	w := &world{TB: t, roles: map[string]*rotation.Role{}, store: &memory{entries: map[string]string{}}}
	w.begin()
	return w
}

// begin makes a Usage that knows nothing yet, as in a new process.
func (w *world) begin() {
	loaded := make(chan struct{})
	close(loaded)
	w.Usage = New(Ports{
		Roles: w, Loaded: loaded, Store: w.store, EntityName: func(string) string { return "" }, Visible: strings.TrimSpace, Log: hclog.NewNullLogger, Types: map[string]secret.Type{"database": database.New(nil, nil), "api_key": apikey.New()}, Now: time.Now,
		Counts: func(typeName string) bool { return typeName == "api_key" },
		Connection: func(s *rotation.Secret) string {
			if s.Type == "database" {
				return s.Name
			}
			return ""
		},
		Sessions: func(ctx context.Context, connection string, usernames []string) (map[string]postgres.Sessions, error) {
			return w.sessions(ctx, connection, usernames)
		},
	})
}

// role has a role changed to have these secrets, and none is a deleted role.
func (w *world) role(name string, secrets ...*rotation.Secret) *rotation.Role {
	w.Helper()
	r := w.committed(name, secrets...)
	w.Follow(r)
	return r
}

// committed has a role changed, and nobody told of it yet.
func (w *world) committed(name string, secrets ...*rotation.Secret) *rotation.Role {
	w.Helper()
	state := &rotation.State{Schema: rotation.Schema, Deleted: len(secrets) == 0, Secrets: map[string]*rotation.Secret{}}
	for _, s := range secrets {
		state.Secrets[s.Name] = s
	}
	engine := &rotation.Engine{Now: time.Now, Settings: func() rotation.Settings { return rotation.Settings{} }}
	r, err := engine.NewRole("role/"+name, name, state)
	if err != nil {
		w.Fatal(err)
	}
	w.roles[name] = r
	return r
}

func key(version int) *rotation.Secret {
	return &rotation.Secret{Name: "key", Type: "api_key", Current: &rotation.Value{Version: version}, Previous: inOverlap(version - 1)}
}

// login is a database secret with a previous login at the connection of its name.
func login(name string, version int) *rotation.Secret {
	return &rotation.Secret{
		Name: name, Type: "database", Config: []byte(`{"connection": "` + name + `", "usernames": ["one", "two"], "rotation_strategy": "alternating_users"}`),
		Current: &rotation.Value{Version: version}, Previous: inOverlap(version - 1),
	}
}

func inOverlap(version int) *rotation.Value {
	return &rotation.Value{Version: version, RetireTime: time.Now().Add(time.Hour), Material: rotation.Material{"username": fmt.Sprint("user", version)}}
}

// TestStagesAreForgotten counts while a role changes, and nothing stays of what it
// does not have any more.
func TestStagesAreForgotten(t *testing.T) {
	w := newWorld(t)
	var now atomic.Pointer[rotation.Role]
	now.Store(w.role("r", key(2)))
	var using sync.WaitGroup
	for range 4 {
		using.Go(func() {
			for range 500 {
				r := now.Load()
				w.Used(r, r.Snapshot().Secrets["key"], secret.StagePrevious)
			}
		})
	}
	for version := 3; version < 100; version++ {
		now.Store(w.role("r", key(version)))
	}
	using.Wait()
	w.Follow(now.Load())
	if known, _ := w.counter.roles.Load("role/r"); len(known.(stageUsages)) != 2 {
		t.Errorf("%d stages are remembered", len(known.(stageUsages)))
	}
	w.role("r")
	if _, kept := w.counter.roles.Load("role/r"); kept {
		t.Error("the use of a deleted role is remembered")
	}
}

// TestServersAreAskedBesideEachOther has one server that hangs, and one that answers.
func TestServersAreAskedBesideEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var silentAsked, answersAsked atomic.Int64
		w.sessions = func(ctx context.Context, connection string, usernames []string) (map[string]postgres.Sessions, error) {
			if connection == "silent" {
				silentAsked.Add(1)
				<-ctx.Done()
				return nil, errors.New("no answer")
			}
			answersAsked.Add(1)
			return map[string]postgres.Sessions{usernames[0]: {Count: 3}}, nil
		}
		silent, answers := login("silent", 2), login("answers", 2)
		r := w.role("r", silent, answers)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Run(ctx)
		for range 2 {
			w.Tick()
			synctest.Wait()
		}
		if silentAsked.Load() != 1 || answersAsked.Load() != 2 {
			t.Errorf("the silent server was asked %d times, the other one %d times", silentAsked.Load(), answersAsked.Load())
		}
		if seen, ok := w.Sessions(r, answers); !ok || seen.Count != 3 || seen.Err != nil || seen.LastSeen != time.Now() {
			t.Errorf("%v is known of the server that answers", seen)
		}
		if seen, ok := w.Sessions(r, silent); !ok || !seen.At.IsZero() || seen.Err != nil {
			t.Errorf("%v is known of the server that has not answered yet", seen)
		}
		time.Sleep(answerTimeout)
		synctest.Wait()
		if seen, _ := w.Sessions(r, silent); seen.Err == nil {
			t.Error("nothing is said of a server that does not answer")
		}
		w.role("r", key(2))
		w.Tick()
		synctest.Wait()
		if left := len(w.seen); left != 0 {
			t.Errorf("%d logins are remembered that are in no overlap", left)
		}
	})
}
