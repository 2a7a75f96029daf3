package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Key is where the configuration is stored, and what its history goes by.
const Key = "config"

// Store keeps the configuration and its history.
type Store interface {
	rotation.Store
	// Read decodes what is under a key, and reports whether there is anything.
	Read(ctx context.Context, key string, into any) (found bool, err error)
	Write(ctx context.Context, key string, value any) error
}

// Ledger is the configuration of the mount with the history of its changes. They
// are one entry in storage, so that no change is without its record, and none is in
// force before that is saved. The history is never pruned: the mount's limits are
// among what it tells of.
type Ledger struct {
	engine *rotation.Engine
	store  Store
	mu     sync.Mutex
	role   *rotation.Role
	known  atomic.Pointer[known]
}

// known is the configuration as far as it is known. Each that was not loaded is another
// one, so that what was read before Forget does not take its place.
type known struct {
	Settings
	loaded bool
}

// New returns the configuration that is kept in store. Engine says how changes are
// recorded; its Store and Settings are the ledger's own.
func New(store Store, engine rotation.Engine) *Ledger {
	l := &Ledger{store: store, engine: &engine}
	engine.Store, engine.Settings = entry{store}, func() rotation.Settings { return l.Now().ForRotations() }
	engine.Changed = func(*rotation.Role) {}
	l.known.Store(&known{})
	return l
}

// Load returns the configuration, from storage the first time.
func (l *Ledger) Load(ctx context.Context) (*Settings, error) {
	assumed := l.known.Load()
	if assumed.loaded {
		return &assumed.Settings, nil
	}
	read := &known{loaded: true}
	if _, err := l.store.Read(ctx, Key, &read.Settings); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	l.known.CompareAndSwap(assumed, read)
	return &read.Settings, nil
}

// Now returns the configuration as far as it is known: the defaults until it was loaded.
func (l *Ledger) Now() *Settings { return &l.known.Load().Settings }

// Forget makes the next to ask read storage.
func (l *Ledger) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.role = nil
	l.known.Store(&known{})
}

// History returns the state that has the history of the configuration.
func (l *Ledger) History(ctx context.Context) (*rotation.Role, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.role != nil {
		return l.role, nil
	}
	state, err := l.engine.Store.Load(ctx, Key)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	l.role, err = l.engine.NewRole(Key, Key, state)
	return l.role, err
}

// Change makes change of the configuration, and records in rec what has become of each
// field.
func (l *Ledger) Change(ctx context.Context, rec *rotation.Record, change func(*Settings) error) error {
	role, err := l.History(ctx)
	if err != nil {
		return err
	}
	var changed Settings
	err = role.SetVersioned(ctx, rec, func(s *rotation.State) (rotation.Secret, error) {
		var current Settings
		if err := json.Unmarshal(s.Secrets[Key].Config, &current); err != nil {
			return rotation.Secret{}, fmt.Errorf("decode configuration: %w", err)
		}
		changed = current
		if err := change(&changed); err != nil {
			return rotation.Secret{}, err
		}
		if reflect.DeepEqual(changed, current) {
			return rotation.Secret{}, errUnchanged
		}
		rec.Changes = rotation.Differences(current.Fields(), changed.Fields())
		return kept(changed)
	})
	if errors.Is(err, rotation.ErrInvalid) {
		return err
	}
	if err != nil && !errors.Is(err, errUnchanged) {
		return fmt.Errorf("save configuration: %w", err)
	}
	l.known.Store(&known{changed, true})
	return nil
}

// errUnchanged ends a change that changes nothing.
var errUnchanged = errors.New("nothing to change")

// kept are the settings where a role has its secrets.
func kept(s Settings) (rotation.Secret, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return rotation.Secret{}, fmt.Errorf("encode configuration: %w", err)
	}
	return rotation.Secret{Name: Key, Config: raw}, nil
}

// entry is the one of the configuration, which has the state of the ledger in it. Its
// fields are as they were before it had a history.
type entry struct{ Store }

// stored is that entry.
type stored struct {
	Settings
	State json.RawMessage `json:"state,omitempty"`
}

// Load implements rotation.Store.
func (e entry) Load(ctx context.Context, key string) (*rotation.State, error) {
	var found stored
	if _, err := e.Read(ctx, key, &found); err != nil {
		return nil, err
	}
	state := &rotation.State{Schema: rotation.Schema}
	if len(found.State) > 0 {
		var err error
		if state, err = rotation.Decode(found.State); err != nil {
			return nil, err
		}
	}
	settings, err := kept(found.Settings)
	state.Secrets = map[string]*rotation.Secret{Key: &settings}
	return state, err
}

// Save implements rotation.Store.
func (e entry) Save(ctx context.Context, key string, state *rotation.State) error {
	var changed stored
	if err := json.Unmarshal(state.Secrets[Key].Config, &changed.Settings); err != nil {
		return fmt.Errorf("decode configuration: %w", err)
	}
	without := *state
	without.Secrets = nil
	var err error
	if changed.State, err = json.Marshal(without); err != nil {
		return fmt.Errorf("encode history of the configuration: %w", err)
	}
	return e.Write(ctx, key, changed)
}
