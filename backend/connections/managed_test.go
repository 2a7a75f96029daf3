package connections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
)

// newEngine is one whose roles are followed by m.
func newEngine(t *testing.T, m *ManagedUsers, store rotation.Store) *rotation.Engine {
	return &rotation.Engine{
		Store: store, Now: time.Now, Changed: m.Note, Context: t.Context(),
		Settings: func() rotation.Settings { return rotation.Settings{} },
		Recorded: func(*rotation.Role, rotation.Record, rotation.Entry) {},
	}
}

// TestManagedUsers follows roles as they come, change, cannot be read, and go.
func TestManagedUsers(t *testing.T) {
	m := newManagedUsers()
	engine := newEngine(t, m, nil)
	note := func(name, config string) {
		t.Helper()
		state := &rotation.State{Schema: rotation.Schema, Secrets: map[string]*rotation.Secret{}}
		if config != "" {
			state.Secrets["db"] = &rotation.Secret{Name: "db", Type: database.TypeName, Config: json.RawMessage(config)}
		}
		r, err := engine.NewRole(roles.Prefix+name, name, state)
		if err != nil {
			t.Fatal(err)
		}
		m.Note(r)
	}
	managed := func(user string, want ...string) {
		t.Helper()
		found, err := m.named(user)
		var got []string
		for _, f := range found {
			got = append(got, f.connection+": "+f.manager())
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("user %s: got %q and %v, want %q", user, got, err, want)
		}
	}
	note("one", `{"connection": "main", "usernames": ["a", "b"]}`)
	note("two", `{"connection": "other", "usernames": ["b"]}`)
	managed("a", "main: secret db of role one")
	managed("b", "main: secret db of role one", "other: secret db of role two")
	managed("c")

	note("one", `{"connection": "main", "usernames": ["a", "c"]}`)
	managed("b", "other: secret db of role two")
	managed("c", "main: secret db of role one")

	note("two", `{"connection": 7}`)
	if _, err := m.named("a"); err == nil {
		t.Error("nobody is missed although the users of a role are not known")
	}
	m.Forget(roles.Prefix + "two")
	note("one", "")
	for _, user := range []string{"a", "b", "c"} {
		managed(user)
	}
	if n := len(m.byName) + len(m.unread); n != 0 {
		t.Errorf("%d users are kept of roles that have none", n)
	}
}

// silent keeps one state; its writes land, and are not answered.
type silent struct {
	rotation.Store
	state   *rotation.State
	answers bool
}

// Load implements rotation.Store.
func (s *silent) Load(context.Context, string) (*rotation.State, error) { return s.state, nil }

// Save implements rotation.Store.
func (s *silent) Save(_ context.Context, _ string, state *rotation.State) error {
	s.state = state
	if s.answers {
		return nil
	}
	return errors.New("no answer")
}

// Append implements rotation.Store.
func (s *silent) Append(context.Context, string, rotation.Entry) error { return nil }

// TestManagedUsersOfAStateInDoubt does not miss the users of a state of which it was
// not known at first that it had been saved.
func TestManagedUsersOfAStateInDoubt(t *testing.T) {
	m, store := newManagedUsers(), &silent{}
	r, err := newEngine(t, m, store).NewRole(roles.Prefix+"r", "r", nil)
	if err != nil {
		t.Fatal(err)
	}
	rec := &rotation.Record{Results: make([]rotation.SecretResult, 1)}
	db := rotation.Secret{Name: "db", Type: database.TypeName, Config: json.RawMessage(`{"connection": "main", "usernames": ["a"]}`), Pending: &rotation.Value{}}
	if err := r.ReplaceAdministrator(t.Context(), rec, &rotation.State{}, db, rotation.Policy{}); err == nil {
		t.Fatal("a write that was not answered went well")
	}
	store.answers = true
	refused := errors.New("refused")
	if err := r.SetPolicy(t.Context(), nil, func(*rotation.State) error { return refused }); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if found, err := m.named("a"); len(found) != 1 || err != nil {
		t.Errorf("got %v and %v, want the user of the state that was saved", found, err)
	}
}

// unkept is a store that keeps nothing.
type unkept struct{}

func (unkept) Read(context.Context, string, any) (bool, error) { return false, nil }

func (unkept) Write(context.Context, string, any) error { return nil }

// TestOwnerWaitsForNobody asks whose a user is, as each change of a password does, while
// somebody writes a connection and storage hangs.
func TestOwnerWaitsForNobody(t *testing.T) {
	c := New(Ports{Store: unkept{}, Mount: func() string { return "smvm/" }})
	c.reserved.Store(&map[account]managedUser{{username: "a"}: {name: "a", connection: "main", secret: "db", role: "r"}})
	c.mu.Lock()
	defer c.mu.Unlock()
	found := make(chan string)
	go func() {
		owner, err := c.OwnerOf(t.Context(), "main", "a")
		found <- fmt.Sprint(owner.Role, "/", owner.Secret, " ", err)
	}()
	select {
	case got := <-found:
		if got != "r/db <nil>" {
			t.Errorf("the owner is %s", got)
		}
	case <-time.After(20 * time.Second):
		t.Error("it waits")
	}
}
