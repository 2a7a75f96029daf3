package usage

import (
	"context"
	"maps"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Prefix is where the readers of each role that has any are stored, under its key.
const Prefix = "readers/"

// settle is how long the worker waits for more after news, to store it all at once.
const settle = 5 * time.Second

// Store keeps what has to survive the process.
type Store interface {
	Read(ctx context.Context, key string, into any) (found bool, err error)
	Write(ctx context.Context, key string, value any) error
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string) ([]string, error)
}

// storedReaders are the readers of a role as they are stored. There is no value in them.
type storedReaders struct {
	Readers []storedReader `json:"readers"`
	// Forgotten is roleReaders.forgotten.
	Forgotten int `json:"forgotten,omitempty"`
}

type storedReader struct {
	EntityID string `json:"entity_id,omitempty"`
	Name     string `json:"name,omitempty"`
	Address  string `json:"address,omitempty"`
	Version  int    `json:"version"`
	// Secrets are the versions of secrets of which it has a newer value.
	Secrets map[string]int `json:"secrets,omitempty"`
	// FirstRead is of that version, LastRead of any, when this was stored.
	FirstRead time.Time `json:"first_read"`
	LastRead  time.Time `json:"last_read"`
}

// run takes over what is stored once the roles are loaded, and then stores what is new,
// until ctx ends. While nobody new reads and nothing is committed, it stores nothing.
func (g *readers) run(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-g.ports.Loaded:
	}
	var unread map[string]bool
	for ctx.Err() == nil {
		if unread = g.load(ctx, unread); unread != nil {
			left := maps.Clone(unread)
			g.unread.Store(&left)
		}
		g.save(ctx, unread)
		select {
		case <-ctx.Done():
		case <-g.due:
		case <-g.news:
			select {
			case <-ctx.Done():
			case <-g.due:
			case <-time.After(settle):
			}
		}
	}
}

// taken reports whether what is stored of the readers of a role was taken over.
func (g *readers) taken(key string) bool {
	unread := g.unread.Load()
	return unread != nil && !(*unread)[key]
}

// load takes over what is stored of the roles that are in memory by now. It returns the
// keys of the roles of which it has not yet, nil if these are not known.
func (g *readers) load(ctx context.Context, unread map[string]bool) map[string]bool {
	if unread == nil {
		names, err := g.ports.Store.List(ctx, Prefix+roles.Prefix)
		if err != nil {
			g.complain(ctx, "the readers of roles cannot be listed", err)
			return nil
		}
		unread = map[string]bool{}
		for _, name := range names {
			unread[roles.Prefix+name] = true
		}
	}
	for key := range maps.Clone(unread) {
		r := g.ports.Roles.Known(key)
		if r == nil {
			continue
		}
		var stored storedReaders
		if _, err := g.ports.Store.Read(ctx, Prefix+key, &stored); err != nil {
			g.complain(ctx, "readers cannot be read", err)
			continue
		}
		g.merge(r.Key, r.Snapshot(), stored)
		delete(unread, key)
	}
	return unread
}

// merge adds stored readers to those that have read meanwhile, but for those that have
// no value any more that works. A role that is left without any is not stored any more.
func (g *readers) merge(key string, state *rotation.Snapshot, stored storedReaders) {
	g.mu.Lock()
	defer g.mu.Unlock()
	role := g.roleLocked(key, state)
	role.remember(max(role.forgotten, stored.Forgotten))
	for _, s := range stored.Readers {
		id := Reader{EntityID: s.EntityID, Name: s.Name}.id()
		if one := role.readers()[id]; one != nil {
			one.merge(s)
			continue
		}
		one := &reader{}
		one.saw(Reader{Name: s.Name, Address: s.Address}, s.LastRead.UnixNano())
		one.merge(s)
		if !one.keeps(state) {
			role.unsaved = true
			continue
		}
		g.addLocked(role, id, one)
	}
	role.unsaved = role.unsaved || role.nothing()
}

// nothing reports whether nothing is remembered of a role.
func (role *roleReaders) nothing() bool { return len(role.readers()) == 0 && role.forgotten == 0 }

// merge takes over what was stored of a reader, as far as it is news.
func (d *reader) merge(s storedReader) {
	if version := int64(s.Version); version >= d.version.Load() {
		d.version.Store(version)
		d.since.Store(s.FirstRead.UnixNano())
	}
	for name, version := range s.Secrets {
		d.raise(name, version, s.FirstRead.UnixNano())
	}
	if last := s.LastRead.UnixNano(); last > d.last.Load() {
		d.last.Store(last)
	}
}

// save stores the readers of the roles of which something is not stored, but of those
// whose stored ones have not been taken over yet.
func (g *readers) save(ctx context.Context, unread map[string]bool) {
	if unread == nil {
		return
	}
	for _, role := range g.all() {
		if unread[role.key] {
			continue
		}
		if stored, unsaved := g.saving(role); unsaved {
			if err := g.write(ctx, role.key, stored); err != nil {
				g.complain(ctx, "readers cannot be stored", err)
				g.failed(role)
			}
		}
	}
}

// saving returns what is to be stored of a role, and notes that it is. A role without
// readers is forgotten.
func (g *readers) saving(role *roleReaders) (stored storedReaders, unsaved bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	unsaved, role.unsaved = role.unsaved, false
	if !unsaved {
		return stored, false
	}
	if role.nothing() {
		g.byRole.Delete(role.key)
	}
	stored.Forgotten = role.forgotten
	for id, one := range role.readers() {
		by := one.reader(id)
		kept := storedReader{
			EntityID: by.EntityID, Name: by.Name, Address: by.Address, Version: int(one.version.Load()),
			FirstRead: moment(&one.since).UTC(), LastRead: moment(&one.last).UTC(),
		}
		if apart := one.apart.Load(); apart != nil {
			kept.Secrets = *apart
		}
		stored.Readers = append(stored.Readers, kept)
	}
	return stored, true
}

func (g *readers) write(ctx context.Context, key string, stored storedReaders) error {
	if len(stored.Readers) == 0 && stored.Forgotten == 0 {
		return g.ports.Store.Delete(ctx, Prefix+key)
	}
	return g.ports.Store.Write(ctx, Prefix+key, stored)
}

// failed has what could not be stored stored again later.
func (g *readers) failed(role *roleReaders) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept, _ := g.byRole.LoadOrStore(role.key, role)
	kept.(*roleReaders).unsaved = true
}

func (g *readers) complain(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		g.ports.Log().Warn(what, "error", err)
	}
}
