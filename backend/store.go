package backend

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// The layout of the mount's storage.
const (
	historyPrefix = "history/"
)

// store keeps states and histories in Vault's storage. It implements
// rotation.Store.
type store struct {
	// handle is what Vault gave the mount; nil until it is initialized.
	handle atomic.Pointer[logical.Storage]
	// configured reads the configuration of the mount, once.
	configured func(ctx context.Context) error
}

var errNoStorage = errors.New("the engine has not been initialized yet")

func (s *store) storage() (logical.Storage, error) {
	storage := s.handle.Load()
	if storage == nil {
		return nil, errNoStorage
	}
	return timely{*storage}, nil
}

// storageTimeout bounds each call of storage, which answers in milliseconds or is gone: one
// that hangs holds up neither the other roles that a worker serves, nor who waits for its
// role. A write that was given up may still land.
const storageTimeout = 20 * time.Second

// timely is a storage whose calls end in time.
type timely struct{ logical.Storage }

func (t timely) List(ctx context.Context, prefix string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	return t.Storage.List(ctx, prefix)
}

func (t timely) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	return t.Storage.Get(ctx, key)
}

func (t timely) Put(ctx context.Context, entry *logical.StorageEntry) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	return t.Storage.Put(ctx, entry)
}

func (t timely) Delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	return t.Storage.Delete(ctx, key)
}

// Load implements rotation.Store. What a policy leaves open is filled in by the
// mount's configuration, so that is read first.
func (s *store) Load(ctx context.Context, key string) (*rotation.State, error) {
	if err := s.configured(ctx); err != nil {
		return nil, err
	}
	entry, err := s.get(ctx, key)
	if err != nil || entry == nil {
		return nil, err
	}
	state, err := rotation.Decode(entry.Value)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", key, roles.ErrDamaged, err)
	}
	return state, nil
}

// Save implements rotation.Store.
func (s *store) Save(ctx context.Context, key string, state *rotation.State) error {
	return s.Write(ctx, key, state)
}

// Append implements rotation.Store.
func (s *store) Append(ctx context.Context, key string, e rotation.Entry) error {
	return s.Write(ctx, entryKey(key, e.Sequence), e)
}

// Entry implements rotation.Store.
func (s *store) Entry(ctx context.Context, key string, sequence int) (*rotation.Entry, error) {
	stored, err := s.get(ctx, entryKey(key, sequence))
	if err != nil || stored == nil {
		return nil, err
	}
	var e rotation.Entry
	if err := stored.DecodeJSON(&e); err != nil {
		return nil, fmt.Errorf("decode history entry %d: %w", sequence, err)
	}
	return &e, nil
}

// DeleteEntries implements rotation.Store.
func (s *store) DeleteEntries(ctx context.Context, key string, sequence int) error {
	storage, err := s.storage()
	if err != nil {
		return err
	}
	prefix := historyPrefix + key + "/"
	names, err := storage.List(ctx, prefix)
	if err != nil {
		return fmt.Errorf("list history: %w", err)
	}
	for _, name := range names {
		n, err := strconv.Atoi(strings.TrimLeft(name, "0"))
		if err != nil || n > sequence {
			continue
		}
		if err := storage.Delete(ctx, prefix+name); err != nil {
			return fmt.Errorf("delete history entry %d: %w", n, err)
		}
	}
	return nil
}

// entryKey sorts by sequence number.
func entryKey(key string, sequence int) string {
	return fmt.Sprintf("%s%s/%010d", historyPrefix, key, sequence)
}

// get reads what is under a key, nil if that is nothing. A request can name what no
// key can be, such as a connection a..b: nothing is there.
func (s *store) get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if relative(key) {
		return nil, nil
	}
	storage, err := s.storage()
	if err != nil {
		return nil, err
	}
	return storage.Get(ctx, key)
}

// ReadRaw returns what is under a key, nil if that is nothing.
func (s *store) ReadRaw(ctx context.Context, key string) ([]byte, error) {
	entry, err := s.get(ctx, key)
	if err != nil || entry == nil {
		return nil, err
	}
	return entry.Value, nil
}

// Read decodes what is under a key, and reports whether there is anything.
func (s *store) Read(ctx context.Context, key string, into any) (found bool, err error) {
	entry, err := s.get(ctx, key)
	if err != nil || entry == nil {
		return false, err
	}
	if err := entry.DecodeJSON(into); err != nil {
		return false, fmt.Errorf("decode %s: %w", key, err)
	}
	return true, nil
}

// Write stores a value as JSON.
func (s *store) Write(ctx context.Context, key string, value any) error {
	storage, err := s.storage()
	if err != nil {
		return err
	}
	entry, err := logical.StorageEntryJSON(key, value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	return failpoint(ctx, key+".write", func() error { return storage.Put(ctx, entry) })
}

// List returns the names under a prefix.
func (s *store) List(ctx context.Context, prefix string) ([]string, error) {
	storage, err := s.storage()
	if err != nil {
		return nil, err
	}
	names, err := storage.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("%w: list %s: %w", rotation.ErrStorage, prefix, err)
	}
	return names, nil
}

// Delete drops what is under a key.
func (s *store) Delete(ctx context.Context, key string) error {
	storage, err := s.storage()
	if err != nil {
		return err
	}
	return storage.Delete(ctx, key)
}
