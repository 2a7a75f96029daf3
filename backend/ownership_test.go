package backend

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// TestManagedUsers follows roles as they come, change, cannot be read, and go.
func TestManagedUsers(t *testing.T) {
	b := newBackend(time.Now, secret.Types)
	t.Cleanup(b.stop)
	note := func(name, config string) {
		t.Helper()
		state := &rotation.State{Schema: rotation.Schema, Secrets: map[string]*rotation.Secret{}}
		if config != "" {
			state.Secrets["db"] = &rotation.Secret{Name: "db", Type: databaseType, Config: json.RawMessage(config)}
		}
		r, err := b.engine.NewRole(roles.Prefix+name, name, state)
		if err != nil {
			t.Fatal(err)
		}
		b.managed.note(r)
	}
	managed := func(user string, want ...string) {
		t.Helper()
		found, err := b.managed.named(user)
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
	if _, err := b.managed.named("a"); err == nil {
		t.Error("nobody is missed although the users of a role are not known")
	}
	b.managed.forget(roles.Prefix + "two")
	note("one", "")
	for _, user := range []string{"a", "b", "c"} {
		managed(user)
	}
	if n := len(b.managed.byName) + len(b.managed.unread); n != 0 {
		t.Errorf("%d users are kept of roles that have none", n)
	}
}

// silent is a store whose writes land, and are not answered.
type silent struct {
	rotation.Store
	answers bool
}

// Save implements rotation.Store.
func (s *silent) Save(ctx context.Context, key string, state *rotation.State) error {
	if err := s.Store.Save(ctx, key, state); err != nil || s.answers {
		return err
	}
	return errors.New("no answer")
}

// TestManagedUsersOfAStateInDoubt does not miss the users of a state of which it was
// not known at first that it had been saved.
func TestManagedUsersOfAStateInDoubt(t *testing.T) {
	b := newBackend(time.Now, secret.Types)
	t.Cleanup(b.stop)
	var storage logical.Storage = newStorage()
	b.storage.Store(&storage)
	store := &silent{Store: b.engine.Store}
	b.engine.Store = store
	r, err := b.engine.NewRole(roles.Prefix+"r", "r", nil)
	if err != nil {
		t.Fatal(err)
	}
	rec := &rotation.Record{Results: make([]rotation.SecretResult, 1)}
	db := rotation.Secret{Name: "db", Type: databaseType, Config: json.RawMessage(`{"connection": "main", "usernames": ["a"]}`), Pending: &rotation.Value{}}
	if err := r.ReplaceAdministrator(t.Context(), rec, 0, db, rotation.Policy{}); err == nil {
		t.Fatal("a write that was not answered went well")
	}
	store.answers = true
	refused := errors.New("refused")
	if err := r.SetPolicy(t.Context(), nil, func(*rotation.State) error { return refused }); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if found, err := b.managed.named("a"); len(found) != 1 || err != nil {
		t.Errorf("got %v and %v, want the user of the state that was saved", found, err)
	}
}
