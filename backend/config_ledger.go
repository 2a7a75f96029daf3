package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/schedule"
)

// ledger is the configuration of the mount with the history of its changes. They
// are one entry in storage, so that no change is without its record, and none is in
// force before that is saved. The history is never pruned: the mount's limits are
// among what it tells of.
type ledger struct {
	b      *backend
	engine *rotation.Engine
	mu     sync.Mutex
	role   *rotation.Role
}

func newLedger(ctx context.Context, b *backend) *ledger {
	return &ledger{b: b, engine: &rotation.Engine{
		Store: ledgerStore{&store{b}}, Now: b.now, NewID: newID, Cron: schedule.ParseCron, Settings: b.rotationSettings,
		Changed: func(*rotation.Role) {}, Recorded: b.recorded, Context: ctx,
	}}
}

// configuration returns the ledger's only state.
func (l *ledger) configuration(ctx context.Context) (*rotation.Role, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.role != nil {
		return l.role, nil
	}
	state, err := l.engine.Store.Load(ctx, configKey)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	l.role, err = l.engine.NewRole(configKey, configKey, state)
	return l.role, err
}

// forget makes the next to ask read storage.
func (l *ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.role = nil
}

// change makes change of the configuration, with a record of who asked for it and
// what has become of each field, and returns what is in force then.
func (l *ledger) change(ctx context.Context, req *logical.Request, change func(*settings) error) (*settings, error) {
	role, err := l.configuration(ctx)
	if err != nil {
		return nil, err
	}
	rec := l.b.configureRecord(req)
	var changed settings
	err = role.SetVersioned(ctx, rec, func(s *rotation.State) (rotation.Secret, error) {
		var current settings
		if err := json.Unmarshal(s.Secrets[configKey].Config, &current); err != nil {
			return rotation.Secret{}, fmt.Errorf("decode configuration: %w", err)
		}
		changed = current
		if err := change(&changed); err != nil {
			return rotation.Secret{}, err
		}
		if reflect.DeepEqual(changed, current) {
			return rotation.Secret{}, errUnchanged
		}
		rec.Changes = differences(current.answer(), changed.answer())
		return keptSettings(changed)
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return nil, fmt.Errorf("save configuration: %w", err)
	}
	changed.loaded = true
	return &changed, nil
}

// errUnchanged ends a change that changes nothing.
var errUnchanged = errors.New("nothing to change")

// keptSettings are the settings where a role has its secrets.
func keptSettings(c settings) (rotation.Secret, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return rotation.Secret{}, fmt.Errorf("encode configuration: %w", err)
	}
	return rotation.Secret{Name: configKey, Config: raw}, nil
}

// differences lists the fields whose values differ, in order.
func differences(before, after map[string]any) []rotation.Difference {
	var found []rotation.Difference
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if !reflect.DeepEqual(before[name], after[name]) {
			found = append(found, rotation.Difference{Field: name, From: before[name], To: after[name]})
		}
	}
	return found
}

// ledgerStore keeps the state of the ledger in the entry of the configuration,
// whose fields are as they were before it had a history.
type ledgerStore struct{ *store }

// storedLedger is that entry.
type storedLedger struct {
	settings
	State json.RawMessage `json:"state,omitempty"`
}

// Load implements rotation.Store.
func (s ledgerStore) Load(ctx context.Context, key string) (*rotation.State, error) {
	var stored storedLedger
	if _, err := s.Read(ctx, key, &stored); err != nil {
		return nil, err
	}
	state := &rotation.State{Schema: rotation.Schema}
	if len(stored.State) > 0 {
		var err error
		if state, err = rotation.Decode(stored.State); err != nil {
			return nil, err
		}
	}
	kept, err := keptSettings(stored.settings)
	state.Secrets = map[string]*rotation.Secret{configKey: &kept}
	return state, err
}

// Save implements rotation.Store.
func (s ledgerStore) Save(ctx context.Context, key string, state *rotation.State) error {
	var stored storedLedger
	if err := json.Unmarshal(state.Secrets[configKey].Config, &stored.settings); err != nil {
		return fmt.Errorf("decode configuration: %w", err)
	}
	without := *state
	without.Secrets = nil
	var err error
	if stored.State, err = json.Marshal(without); err != nil {
		return fmt.Errorf("encode history of the configuration: %w", err)
	}
	return s.Write(ctx, key, stored)
}
