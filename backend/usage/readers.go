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

// The bounds of how many readers are remembered. Beyond them, one is forgotten: of those
// that are not late, if there are any, the one that has not read for longest.
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
	followed *rotation.Snapshot
	unsaved  bool
	// forgotten is zero, or a late reader had to be forgotten, which may have values of
	// versions before that.
	forgotten int
}

// reader is what is known of one reader of one role. Version and since change together.
type reader struct {
	version atomic.Int64 // of the role; zero if it has only read secrets by themselves
	// apart has the secrets of which it has the value of a newer version. It is never
	// changed in place, and nil if there are none.
	apart         atomic.Pointer[map[string]int]
	since         atomic.Int64 // when it first read version; like the others in nanoseconds since 1970
	last          atomic.Int64 // when it last read
	told          atomic.Int64 // when the active node was last told
	name, address atomic.Pointer[string]
}

// Read remembers that by has read that version of a secret of r at that time; of all, if
// none is named. It reports whether the active node has to be told, if this is another one:
// at the first read of a version by each reader, and once in tellAgain. It waits for nobody
// who does I/O.
func (g *readers) Read(r *rotation.Role, by Reader, secret string, version int, at time.Time) bool {
	if by.EntityID == "" && by.Name == "" {
		return false // a request without a token
	}
	if len(by.Name) > maxName {
		by.Name = strings.ToValidUTF8(by.Name[:maxName], "")
	}
	now := at.UnixNano()
	if one := g.of(r.Key).readers()[by.id()]; one != nil && one.has(secret) >= version {
		one.saw(by, now)
		told := one.told.Load()
		return now-told >= int64(tellAgain) && one.told.CompareAndSwap(told, now)
	}
	g.learn(r, by, secret, version, now)
	return true
}

// ReadPrevious remembers that by has read the previous value of a secret of r, or of all:
// that is the newest that it has, unless it has read a newer one as well, as those do who
// need both.
func (g *readers) ReadPrevious(r *rotation.Role, by Reader, secret string, at time.Time) {
	for name, s := range r.Snapshot().Secrets {
		if s.Previous != nil && !s.ShownOnce && (secret == "" || secret == name) {
			g.Read(r, by, name, s.Previous.Version, at)
		}
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

// has is the newest version of a secret that the reader has; of all, if none is named.
func (d *reader) has(secret string) int {
	version := int(d.version.Load())
	if apart := d.apart.Load(); apart != nil {
		version = max(version, (*apart)[secret])
	}
	return version
}

// raise notes a version that the reader has of a secret, or of all, and reports whether it
// is news.
func (d *reader) raise(secret string, version int, now int64) bool {
	switch {
	case d.has(secret) >= version:
		return false
	case d.version.Load() == 0 || secret == "":
		d.since.Store(now)
	}
	if secret == "" {
		d.version.Store(int64(version))
		d.apart.Store(nil)
		return true
	}
	apart := map[string]int{}
	if before := d.apart.Load(); before != nil {
		maps.Copy(apart, *before)
	}
	apart[secret] = version
	d.apart.Store(&apart)
	return true
}

// keeps reports whether the reader has a value that is not retired.
func (d *reader) keeps(s *rotation.Snapshot) bool {
	for name, one := range s.Secrets {
		if one.Current != nil && d.has(name) >= oldest(one) {
			return true
		}
	}
	return false
}

// learn notes a read of a version by a reader that had an older one, or none.
func (g *readers) learn(r *rotation.Role, by Reader, secret string, version int, now int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, read := r.Snapshot(), &reader{}
	if read.raise(secret, version, now); !read.keeps(s) {
		return // its values were retired meanwhile
	}
	role := g.roleLocked(r.Key, s)
	one, known := role.readers()[by.id()]
	if !known {
		one = read
		role.unsaved = true
	}
	one.saw(by, now)
	one.told.Store(now)
	if one.raise(secret, version, now) {
		role.unsaved = true
	}
	if !known {
		g.addLocked(role, by.id(), one)
		wake(g.news)
	}
}

// oldest is the version of the oldest value of a secret that is not retired.
func oldest(s *rotation.Secret) int {
	if s.Previous != nil {
		return min(s.Previous.Version, s.Current.Version)
	}
	return s.Current.Version
}

func (g *readers) roleLocked(key string, s *rotation.Snapshot) *roleReaders {
	role := g.of(key)
	if role == nil {
		role = &roleReaders{key: key, followed: s}
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

// evictLocked forgets a reader of those roles: the one that has not read for longest, and
// a late one only if all are.
func (g *readers) evictLocked(among ...*roleReaders) {
	var from *roleReaders
	var who readerID
	needed, longest := true, int64(math.MaxInt64)
	for _, role := range among {
		for id, one := range role.readers() {
			last, late := one.last.Load(), one.late(role.followed)
			if late == needed && last < longest || needed && !late {
				from, who, needed, longest = role, id, late, last
			}
		}
	}
	if needed {
		from.forgotten = newestOf(from.followed)
	}
	g.forgetLocked(from, func(id readerID, _ *reader) bool { return id == who })
}

// forgot reports whether a reader had to be forgotten that may have the previous value of s.
func (g *readers) forgot(r *rotation.Role, s *rotation.Secret) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	role := g.of(r.Key)
	return role != nil && s.Previous != nil && s.Previous.Version < role.forgotten
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

// remember notes up to which version late readers were forgotten, until all values before
// that are retired.
func (role *roleReaders) remember(forgotten int) {
	role.forgotten = 0
	for _, s := range role.followed.Secrets {
		if s.Current != nil && oldest(s) < forgotten {
			role.forgotten = forgotten
		}
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
	g.mu.Lock()
	defer g.mu.Unlock()
	if role := g.of(r.Key); role != nil {
		g.followLocked(role, r.Snapshot())
	}
}

func (g *readers) followLocked(role *roleReaders, after *rotation.Snapshot) {
	before := role.followed
	role.followed = after
	if maps.Equal(versions(before), versions(after)) {
		return
	}
	forgotten := role.forgotten
	for name, s := range after.Secrets {
		if was := before.Secrets[name]; restores(was, s) && was.Previous.Version < forgotten {
			forgotten = s.Current.Version + 1
		}
	}
	role.remember(forgotten)
	for _, one := range role.readers() {
		one.follow(before, after)
	}
	g.forgetLocked(role, func(_ readerID, one *reader) bool { return !one.keeps(after) })
	role.unsaved = true
	wake(g.news)
}

// versions are those of the current and of the previous value of each secret: they decide
// about the readers of a role.
func versions(s *rotation.Snapshot) map[string][2]int {
	found := map[string][2]int{}
	for name, one := range s.Secrets {
		var of [2]int
		if one.Current != nil {
			of[0] = one.Current.Version
		}
		if one.Previous != nil {
			of[1] = one.Previous.Version
		}
		found[name] = of
	}
	return found
}

// restores reports whether the previous value of before is the current one of after: a
// rollback gives it a new version.
func restores(before, after *rotation.Secret) bool {
	return before != nil && before.Current != nil && before.Previous != nil &&
		after.Current != nil && after.Current.Version > before.Current.Version &&
		after.Current.Material.Equal(before.Previous.Material)
}

// follow gives the reader the new versions of the values that it has.
func (d *reader) follow(before, after *rotation.Snapshot) {
	apart := map[string]int{}
	for name, s := range after.Secrets {
		has := d.has(name)
		if was := before.Secrets[name]; restores(was, s) && lacks(was, has) {
			has = s.Current.Version
		}
		if has > int(d.version.Load()) {
			apart[name] = has
		}
	}
	if len(apart) == 0 {
		d.apart.Store(nil)
		return
	}
	d.apart.Store(&apart)
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
	// Known is how many readers are remembered, and Current how many of them have the
	// current value of each secret that they have read.
	Known, Current int
	// Late are those that have the previous value of a secret in its overlap, and have
	// not read the current one. Who has not read for longest comes first.
	Late []Late
}

// Late is a reader that has not read the value that took the place of one it has.
type Late struct {
	Reader
	// Secrets are those of which it lacks the current value, and Version is the oldest that
	// it has of them.
	Secrets []string
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
	role, s := g.of(r.Key), r.Snapshot()
	if role != nil {
		g.followLocked(role, s) // of a commit that Follow has not been called for yet
	}
	known := role.readers()
	found := Readers{Known: len(known)}
	for id, one := range known {
		if one.current(s) {
			found.Current++
		}
		if !one.late(s) {
			continue
		}
		late := Late{Reader: one.reader(id), FirstRead: moment(&one.since), LastRead: moment(&one.last)}
		late.Name = g.ports.Visible(late.Name)
		for _, name := range s.Names() {
			if lacks(s.Secrets[name], one.has(name)) {
				late.add(s.Secrets[name], one.has(name))
			}
		}
		found.Late = append(found.Late, late)
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

// add adds a secret of whose values the reader has that version, and lacks the current one.
func (l *Late) add(s *rotation.Secret, version int) {
	cutOver, first := s.CutOver(), len(l.Secrets) == 0
	l.Secrets = append(l.Secrets, s.Name)
	if first || cutOver.Before(l.Since) {
		l.Since = cutOver
	}
	if first || version < l.Version {
		l.Version = version
	}
}

// current reports whether the reader has the current value of each secret that it has read.
func (d *reader) current(s *rotation.Snapshot) bool {
	for name, one := range s.Secrets {
		has := d.has(name)
		if one.Current != nil && !one.ShownOnce && has > 0 && has < one.Current.Version {
			return false
		}
	}
	return true
}

// late reports whether the reader lacks the current value of a secret in its overlap.
func (d *reader) late(s *rotation.Snapshot) bool {
	for name, one := range s.Secrets {
		if lacks(one, d.has(name)) {
			return true
		}
	}
	return false
}

// lacks reports whether a reader of no newer version than that has the previous value of
// s, and not the current one. Reading tells nobody a value that is shown only once.
func lacks(s *rotation.Secret, version int) bool {
	return s.Current != nil && s.Previous != nil && !s.ShownOnce &&
		version >= s.Previous.Version && version < s.Current.Version
}

func moment(nanoseconds *atomic.Int64) time.Time { return time.Unix(0, nanoseconds.Load()) }
