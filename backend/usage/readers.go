package usage

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// The bounds of how many readers are remembered. Beyond them, the one that has not
// read for longest is forgotten.
const (
	MaxReaders    = 1000   // of one role
	MaxAllReaders = 10_000 // of the mount
)

// maxName is the longest name of a reader that is kept.
const maxName = 128

// tellAgain is how long a node that may not write serves a reader by itself before it
// has the active node told again: a request that it forwarded may not have arrived, and
// the active node may be another one since.
const tellAgain = time.Hour

// Reader is who reads the values of roles, as Vault names it.
type Reader struct {
	// EntityID is empty for a token without an entity: those of one display name are
	// one reader.
	EntityID, Name string
	// Address is the client's, empty if Vault does not say.
	Address string
}

// readerID tells the readers of a role apart.
type readerID struct{ entity, name string }

// id leaves out the name of an entity, which has one for each way to log in.
func (by Reader) id() readerID {
	if by.EntityID != "" {
		return readerID{entity: by.EntityID}
	}
	return readerID{name: by.Name}
}

// String names the reader.
func (by Reader) String() string {
	if by.EntityID == "" {
		return rotation.SetApart(by.Name)
	}
	return rotation.SetApart(by.Name) + ", entity " + by.EntityID
}

// readers remembers who has read which version of which role. A read by a known reader,
// of a version that it had before, takes no lock and allocates nothing.
type readers struct {
	ports  Ports
	byRole sync.Map // key of the role to *roleReaders
	// unread are the keys of the roles whose stored readers have not been taken over yet;
	// nil as long as these are not known. The map is never changed in place.
	unread atomic.Pointer[map[string]bool]
	// news and due have the worker store what is not stored yet: news soon, due now.
	news, due chan struct{}

	// mu is held by whoever changes who is known, or what each has read.
	mu    sync.Mutex
	count int
}

// roleReaders are the readers of one role.
type roleReaders struct {
	key string
	// known is never changed in place.
	known atomic.Pointer[map[readerID]*reader]

	// Guarded by readers.mu: the state of the role that was followed last, and whether
	// something is not stored yet that should be.
	followed followed
	unsaved  bool
}

// followed is what of a role's state decides about its readers.
type followed struct{ version, oldest int }

// reader is what is known of one reader of one role. Version and since change together.
type reader struct {
	version       atomic.Int64
	since         atomic.Int64 // when it first read version; like the others in nanoseconds since 1970
	last          atomic.Int64 // when it last read
	told          atomic.Int64 // when the active node was last told
	name, address atomic.Pointer[string]
}

// Read remembers that by has read that version of r at that time. It reports whether the active node
// has to be told, if this is another one: at the first read of a version by each reader,
// and once in tellAgain. It waits for nobody who does I/O.
func (g *readers) Read(r *rotation.Role, by Reader, version int, at time.Time) bool {
	if by.EntityID == "" && by.Name == "" {
		return false // a request without a token
	}
	if len(by.Name) > maxName {
		by.Name = strings.ToValidUTF8(by.Name[:maxName], "")
	}
	now := at.UnixNano()
	if one := g.of(r.Key).readers()[by.id()]; one != nil && one.version.Load() >= int64(version) {
		one.saw(by, now)
		told := one.told.Load()
		return now-told >= int64(tellAgain) && one.told.CompareAndSwap(told, now)
	}
	g.learn(r, by, version, now)
	return true
}

// ReadPrevious remembers that by has read the previous values of r: those are the newest
// that it has, unless it has read newer ones as well, as those do who need both.
func (g *readers) ReadPrevious(r *rotation.Role, by Reader, at time.Time) {
	version := 0
	for _, s := range r.Snapshot().Secrets {
		if s.Previous != nil && !s.ShownOnce {
			version = max(version, s.Previous.Version)
		}
	}
	if version > 0 {
		g.Read(r, by, version, at)
	}
}

// of returns the readers of a role; nil if none were ever known.
func (g *readers) of(key string) *roleReaders {
	if known, ok := g.byRole.Load(key); ok {
		return known.(*roleReaders)
	}
	return nil
}

// readers may be called of nil.
func (role *roleReaders) readers() map[readerID]*reader {
	if role == nil {
		return nil
	}
	return *role.known.Load()
}

// saw notes a read.
func (d *reader) saw(by Reader, now int64) {
	d.last.Store(now)
	note(&d.name, by.Name)
	note(&d.address, by.Address)
}

// note stores a text if it is another one, which is rare.
func note(where *atomic.Pointer[string], text string) {
	if known := where.Load(); known == nil || *known != text {
		copied := text // so that only this allocates
		where.Store(&copied)
	}
}

// learn notes a read of a version by a reader that had an older one, or none.
func (g *readers) learn(r *rotation.Role, by Reader, version int, now int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	state := followedOf(r.Snapshot())
	if version < state.oldest {
		return // its values were retired meanwhile
	}
	role := g.roleLocked(r.Key, state)
	one, known := role.readers()[by.id()]
	if !known {
		one = &reader{}
	}
	one.saw(by, now)
	one.told.Store(now)
	if int64(version) > one.version.Load() {
		one.version.Store(int64(version))
		one.since.Store(now)
		role.unsaved = true
	}
	if !known {
		g.addLocked(role, by.id(), one)
		wake(g.news)
	}
}

func followedOf(s *rotation.Snapshot) followed { return followed{s.Version, oldest(s)} }

// oldest is the oldest version whose readers may have a value that is not retired. Of a
// role without values there is none.
func oldest(s *rotation.Snapshot) int {
	found := math.MaxInt
	for _, one := range s.Secrets {
		if one.Current != nil {
			found = min(found, one.Current.Version)
		}
		if one.Previous != nil {
			found = min(found, one.Previous.Version)
		}
	}
	return found
}

func (g *readers) roleLocked(key string, state followed) *roleReaders {
	role := g.of(key)
	if role == nil {
		role = &roleReaders{key: key, followed: state}
		role.known.Store(&map[readerID]*reader{})
		g.byRole.Store(key, role)
	}
	return role
}

// addLocked adds a reader, and forgets another one if there are too many.
func (g *readers) addLocked(role *roleReaders, id readerID, one *reader) {
	switch {
	case len(role.readers()) >= MaxReaders:
		g.evictLocked(role)
	case g.count >= MaxAllReaders:
		g.evictLocked(g.all()...)
	}
	known := maps.Clone(role.readers())
	known[id] = one
	role.known.Store(&known)
	g.count++
}

// evictLocked forgets the reader of those roles that has not read for longest.
func (g *readers) evictLocked(among ...*roleReaders) {
	var from *roleReaders
	var who readerID
	longest := int64(math.MaxInt64)
	for _, role := range among {
		for id, one := range role.readers() {
			if last := one.last.Load(); last < longest {
				from, who, longest = role, id, last
			}
		}
	}
	g.forgetLocked(from, func(id readerID, _ *reader) bool { return id == who })
}

// forgetLocked forgets some readers of a role.
func (g *readers) forgetLocked(role *roleReaders, gone func(readerID, *reader) bool) {
	left := maps.Clone(role.readers())
	maps.DeleteFunc(left, gone)
	if forgotten := len(role.readers()) - len(left); forgotten > 0 {
		role.known.Store(&left)
		role.unsaved = true
		g.count -= forgotten
	}
}

// all returns the readers of all roles.
func (g *readers) all() (found []*roleReaders) {
	g.byRole.Range(func(_, role any) bool {
		found = append(found, role.(*roleReaders))
		return true
	})
	return found
}

// follow forgets the readers of r that have no value any more that works. After a commit
// it has the others stored, because now it matters when each has last read.
func (g *readers) follow(r *rotation.Role) {
	role := g.of(r.Key)
	if role == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	state := followedOf(r.Snapshot())
	if role.followed == state {
		return
	}
	g.forgetLocked(role, func(_ readerID, one *reader) bool { return one.version.Load() < int64(state.oldest) })
	role.followed, role.unsaved = state, true
	wake(g.news)
}

// wake has the worker look. It never blocks.
func wake(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// Readers is what is known of who reads a role.
type Readers struct {
	// Known is how many readers are remembered, and Current how many of them have read
	// all current values.
	Known, Current int
	// Late are those that have the previous value of a secret in its overlap, and have
	// not read the current one. Who has not read for longest comes first.
	Late []Late
}

// Late is a reader that has not read the value that took the place of one it has.
type Late struct {
	Reader
	// Version is the newest that it has read.
	Version int
	// FirstRead is when it read that version first, LastRead when it read last, as far
	// as this node knows, and Since when the first value that it lacks became current.
	FirstRead, LastRead, Since time.Time
}

// String says who is late.
func (l Late) String() string {
	return fmt.Sprintf("%s, has version %d, last read at %s", l.Reader, l.Version, clock(l.LastRead))
}

// Readers returns what is known of who reads r.
func (g *readers) Readers(r *rotation.Role) Readers {
	g.mu.Lock()
	defer g.mu.Unlock()
	known, s := g.of(r.Key).readers(), r.Snapshot()
	found := Readers{Known: len(known)}
	newest := newestOf(s)
	for id, one := range known {
		version := int(one.version.Load())
		if version >= newest {
			found.Current++
		}
		if since, late := lateSince(s, version); late {
			by := one.reader(id)
			by.Name = g.ports.Visible(by.Name)
			found.Late = append(found.Late, Late{
				Reader: by, Version: version,
				FirstRead: moment(&one.since), LastRead: moment(&one.last), Since: since,
			})
		}
	}
	slices.SortFunc(found.Late, func(x, y Late) int {
		return cmp.Or(x.LastRead.Compare(y.LastRead), cmp.Compare(x.EntityID, y.EntityID), cmp.Compare(x.Name, y.Name))
	})
	return found
}

// reader returns who it is.
func (d *reader) reader(id readerID) Reader {
	return Reader{EntityID: id.entity, Name: *d.name.Load(), Address: *d.address.Load()}
}

// newestOf is the version whose readers have all current values.
func newestOf(s *rotation.Snapshot) (newest int) {
	for _, one := range s.Secrets {
		if one.Current != nil && !one.ShownOnce {
			newest = max(newest, one.Current.Version)
		}
	}
	return newest
}

// lateSince reports whether a reader of no newer version than that lacks a value, and
// since when.
func lateSince(s *rotation.Snapshot, version int) (since time.Time, late bool) {
	for _, one := range s.Secrets {
		if !lacks(one, version) {
			continue
		}
		if cutOver := one.CutOver(); !late || cutOver.Before(since) {
			since, late = cutOver, true
		}
	}
	return since, late
}

// lacks reports whether a reader of no newer version than that has the previous value of
// s, and not the current one. Reading tells nobody a value that is shown only once.
func lacks(s *rotation.Secret, version int) bool {
	return s.Current != nil && s.Previous != nil && !s.ShownOnce &&
		version >= s.Previous.Version && version < s.Current.Version
}

func moment(nanoseconds *atomic.Int64) time.Time { return time.Unix(0, nanoseconds.Load()) }
