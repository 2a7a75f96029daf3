// Package roles holds what there is: the live form of every role and connection. Both
// are states that package rotation changes, told apart by the keys they are stored under.
package roles

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Registry holds the live form of every role and connection, one per key, and
// loads them from storage when they are first asked for.
type Registry struct {
	engine *rotation.Engine
	// list returns the names that are stored under a prefix.
	list  func(ctx context.Context, prefix string) ([]string, error)
	mu    sync.RWMutex
	roles map[string]*rotation.Role
	drops int // how often Drop was called
	// complete says that all that is stored has been loaded: what is not among
	// roles then is not there.
	complete atomic.Bool
}

// New returns an empty registry. List returns the names that are stored under a prefix.
func New(engine *rotation.Engine, list func(ctx context.Context, prefix string) ([]string, error)) *Registry {
	return &Registry{engine: engine, list: list, roles: map[string]*rotation.Role{}}
}

// LoadAll loads everything that is stored. Connections come first, because the secrets
// of roles need them. What can't be read is left out, and is in the error.
func (g *Registry) LoadAll(ctx context.Context) error {
	var unread error
	for _, prefix := range []string{ConnectionPrefix, Prefix} {
		_, err := g.All(ctx, prefix)
		unread = errors.Join(unread, err)
	}
	g.complete.Store(unread == nil)
	return unread
}

// Complete reports whether LoadAll has loaded all, and nothing was dropped since.
func (g *Registry) Complete() bool { return g.complete.Load() }

// Find is Get for those who need no token, and may ask for any name as often as
// they like: once all is loaded, it reads no storage, and waits for nobody who does.
func (g *Registry) Find(ctx context.Context, prefix, name string) (*rotation.Role, error) {
	g.mu.RLock()
	role := g.roles[prefix+name]
	g.mu.RUnlock()
	if role != nil || g.complete.Load() {
		return role, nil
	}
	return g.Get(ctx, prefix, name)
}

// Get returns the role stored under prefix+name, nil when there never was one.
// A damaged entry is an error for this role only.
func (g *Registry) Get(ctx context.Context, prefix, name string) (*rotation.Role, error) {
	return g.load(ctx, prefix, name, false)
}

// Obtain is Get for a role that is about to be written: it is made if missing.
func (g *Registry) Obtain(ctx context.Context, prefix, name string) (*rotation.Role, error) {
	return g.load(ctx, prefix, name, true)
}

func (g *Registry) load(ctx context.Context, prefix, name string, create bool) (*rotation.Role, error) {
	for key := prefix + name; ; {
		g.mu.RLock()
		role, drops := g.roles[key], g.drops
		g.mu.RUnlock()
		if role != nil {
			return role, nil
		}
		state, err := g.engine.Store.Load(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("%w: load %s: %w", rotation.ErrStorage, key, err)
		}
		if state == nil && !create {
			return nil, nil
		}
		if role, err = g.engine.NewRole(key, name, state); err != nil {
			// What is stored is wrong, and not the request that made it be read.
			return nil, fmt.Errorf("%w: load %s: %w: %s", rotation.ErrStorage, key, ErrDamaged, err.Error())
		}
		if role = g.keep(key, role, drops); role != nil {
			return role, nil
		}
	}
}

// keep makes role the live form of its key, unless there is one already, which may
// have been changed since. When Drop was called after the role was read, there may
// be a newer one, and keep returns nil.
func (g *Registry) keep(key string, role *rotation.Role, drops int) *rotation.Role {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.drops != drops {
		return nil
	}
	if first := g.roles[key]; first != nil {
		return first
	}
	g.roles[key] = role
	g.engine.Changed(role)
	return role
}

// All loads everything under prefix. What can't be loaded is left out, and
// reported in the error beside the rest.
func (g *Registry) All(ctx context.Context, prefix string) ([]*rotation.Role, error) {
	names, err := g.list(ctx, prefix)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	found, errs := make([]*rotation.Role, len(names)), make([]error, len(names))
	var reading sync.WaitGroup
	for reader := range readers {
		reading.Go(func() {
			for i := reader; i < len(names); i += readers {
				found[i], errs[i] = g.Get(ctx, prefix, names[i])
			}
		})
	}
	reading.Wait()
	found = slices.DeleteFunc(found, func(r *rotation.Role) bool { return r == nil || r.Snapshot().Deleted })
	return found, errors.Join(errs...)
}

// Readable is All, but what is damaged is no error: it is returned beside the rest.
func (g *Registry) Readable(ctx context.Context, prefix string) (roles []*rotation.Role, damaged, err error) {
	if roles, err = g.All(ctx, prefix); onlyDamaged(err) {
		return roles, err, nil
	}
	return roles, nil, err
}

// onlyDamaged reports whether an error of All is about damaged entries and nothing else.
func onlyDamaged(err error) bool {
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // as All returns it
	return ok && !slices.ContainsFunc(joined.Unwrap(), func(each error) bool { return !errors.Is(each, ErrDamaged) })
}

// readers is how many entries are read from storage at the same time: each is a
// call to Vault and back, in which the time goes by that a start takes.
const readers = 16

// Loaded returns what is in memory now.
func (g *Registry) Loaded() []*rotation.Role {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.Collect(maps.Values(g.roles))
}

// First returns the role or connection in memory that is the best, nil if there is
// none: better says whether one is good, and better than the best so far, which may be
// nil. Nothing is copied.
func (g *Registry) First(better func(r, best *rotation.Role) bool) (best *rotation.Role) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, r := range g.roles {
		if !r.Snapshot().Deleted && better(r, best) {
			best = r
		}
	}
	return best
}

// Known returns the role or connection in memory under a key, nil if there is none.
func (g *Registry) Known(key string) *rotation.Role {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.roles[key]
}

// Drop forgets what was loaded from key, to be loaded again when asked for.
func (g *Registry) Drop(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.roles, key)
	g.drops++
	g.complete.Store(false)
}
