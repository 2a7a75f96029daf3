package usage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// memory is a Store that counts its writes, and can refuse everything.
type memory struct {
	mu      sync.Mutex
	entries map[string]string
	writes  int
	broken  bool
}

var errBroken = errors.New("the store is broken")

func (s *memory) use(work func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return errBroken
	}
	work()
	return nil
}

// Read implements Store.
func (s *memory) Read(_ context.Context, key string, into any) (found bool, err error) {
	var text string
	if err := s.use(func() { text, found = s.entries[key] }); err != nil || !found {
		return false, err
	}
	return true, json.Unmarshal([]byte(text), into)
}

// Write implements Store.
func (s *memory) Write(_ context.Context, key string, value any) error {
	text, err := json.Marshal(value)
	return errors.Join(err, s.use(func() { s.entries[key], s.writes = string(text), s.writes+1 }))
}

// Delete implements Store.
func (s *memory) Delete(_ context.Context, key string) error {
	return s.use(func() { delete(s.entries, key); s.writes++ })
}

// List implements Store.
func (s *memory) List(_ context.Context, prefix string) (names []string, err error) {
	err = s.use(func() {
		for key := range s.entries {
			if name, ok := strings.CutPrefix(key, prefix); ok {
				names = append(names, name)
			}
		}
	})
	return names, err
}

// breaks has the store refuse everything, or not any more.
func (s *memory) breaks(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// written returns how many writes there were, and forgets them.
func (s *memory) written() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, s.writes = s.writes, 0
	return n
}

func entity(n int) Reader {
	return Reader{EntityID: fmt.Sprint("entity-", n), Name: "approle", Address: fmt.Sprint("192.0.2.", n)}
}

// read is a read now.
func (w *world) read(r *rotation.Role, by Reader, version int) bool {
	return w.Read(r, by, "", version, time.Now())
}

// late lists the ids of those who are late.
func (w *world) late(r *rotation.Role) (ids []string) {
	for _, one := range w.Readers(r).Late {
		ids = append(ids, one.EntityID+one.Name)
	}
	slices.Sort(ids)
	return ids
}

// TestReadersAreSetApart has names that read like a part of what is said of a reader.
func TestReadersAreSetApart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		by   Reader
		want string
	}{
		{Reader{Name: "oidc-ana.b@shop.example", EntityID: "e1"}, "oidc-ana.b@shop.example, entity e1"},
		{Reader{Name: "kubernetes-shop/api_1"}, "kubernetes-shop/api_1"},
		{Reader{EntityID: "e1"}, ", entity e1"},
		{Reader{Name: "ops, entity e9, has version 7", EntityID: "e1"}, `"ops, entity e9, has version 7", entity e1`},
		{Reader{Name: `ops"; lead`}, `"ops\"; lead"`},
		{Reader{Name: "ops\n"}, `"ops\n"`},
	} {
		if got := c.by.String(); got != c.want {
			t.Errorf("%#v is %s, want %s", c.by, got, c.want)
		}
	}
}

// TestReaders follows three readers through a rotation, and to the end of its overlap.
func TestReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.role("r", key(4))
		root := Reader{Name: "root"}
		for _, by := range []Reader{entity(1), entity(2), root, {}} {
			w.read(r, by, 4)
		}
		if got := w.Readers(r); got.Known != 3 || got.Current != 3 || len(got.Late) != 0 {
			t.Errorf("before a rotation: %v", got)
		}
		firstRead := time.Now()
		time.Sleep(time.Minute)
		w.read(r, entity(1), 4)
		lastRead := time.Now()
		time.Sleep(time.Minute)
		r = w.role("r", replaced(5))
		cutOver := time.Now()
		w.read(r, root, 5)
		w.ReadPrevious(r, root, "", time.Now())
		w.ReadPrevious(r, entity(2), "", time.Now())
		want := []Late{
			{Reader: entity(1), Secrets: []string{"key"}, Version: 4, FirstRead: firstRead, LastRead: lastRead, Since: cutOver},
			{Reader: entity(2), Secrets: []string{"key"}, Version: 4, FirstRead: firstRead, LastRead: cutOver, Since: cutOver},
		}
		got := w.Readers(r)
		if got.Known != 3 || got.Current != 1 || !slices.EqualFunc(got.Late, want, sameLate) {
			t.Errorf("after the rotation: %+v", got)
		}
		w.read(r, entity(2), 5)
		if late := w.late(r); !slices.Equal(late, []string{"entity-1approle"}) {
			t.Errorf("late are %v", late)
		}
		w.read(r, entity(1), 3) // by a node that lags
		if got := w.Readers(r).Late[0].Version; got != 4 {
			t.Errorf("who had version 4 has version %d", got)
		}
		retired := key(5)
		retired.Previous = nil
		r = w.committed("r", retired) // as status may see it before Follow is called
		if got := w.Readers(r); got.Known != 2 || got.Current != 2 || len(got.Late) != 0 {
			t.Errorf("after the end of the overlap: %+v", got)
		}
		w.read(r, entity(1), 4)
		if got := w.Readers(r); got.Known != 2 {
			t.Error("a reader of values that were retired meanwhile is remembered")
		}
		w.role("r")
		if got := w.Readers(w.roles["r"]); got.Known != 0 {
			t.Errorf("the readers of a deleted role are remembered: %+v", got)
		}
	})
}

func sameLate(x, y Late) bool {
	return x.Reader == y.Reader && slices.Equal(x.Secrets, y.Secrets) && x.Version == y.Version && x.FirstRead.Equal(y.FirstRead) && x.LastRead.Equal(y.LastRead) && x.Since.Equal(y.Since)
}

// replaced is key with a previous value that has just been replaced.
func replaced(version int) *rotation.Secret {
	s := key(version)
	s.Previous.Replaced = time.Now()
	return s
}

// TestPartOfARole has a role whose secrets rotate apart from each other.
func TestPartOfARole(t *testing.T) {
	w := newWorld(t)
	other := &rotation.Secret{Name: "other", Type: "api_key", Current: &rotation.Value{Version: 2}}
	once := &rotation.Secret{Name: "once", Type: "api_key", ShownOnce: true, Current: &rotation.Value{Version: 9}, Previous: inOverlap(3)}
	before := key(6)
	before.Previous.Version = 3
	r := w.role("r", other, once, before)
	for version := 2; version <= 6; version++ {
		w.read(r, entity(version), version)
	}
	if late := w.late(r); !slices.Equal(late, []string{"entity-3approle", "entity-4approle", "entity-5approle"}) {
		t.Errorf("late are %v", late)
	}
	if got := w.Readers(r); got.Known != 5 || got.Current != 1 {
		t.Errorf("of five readers, one of whom has nothing newer than what is retired: %+v", got)
	}
}

// TestActiveNodeIsTold: the first read of a version by each reader, and one an hour.
func TestActiveNodeIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.role("r", key(2))
		told := func(by Reader, version int, want bool) {
			t.Helper()
			if got := w.read(r, by, version); got != want {
				t.Errorf("after a read of version %d by %s, the active node has to be told: %v", version, by, got)
			}
		}
		told(entity(1), 2, true)
		told(entity(1), 2, false)
		told(entity(2), 2, true)
		r = w.role("r", key(3))
		told(entity(1), 3, true)
		told(entity(1), 2, false)
		time.Sleep(tellAgain)
		told(entity(1), 3, true)
		told(entity(1), 3, false)
	})
}

// TestReadersAreBounded has too many of one role, and then too many in all: those stay
// that have read last, and one that is late although it has not read for longest.
func TestReadersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.read(w.role("late", key(1)), entity(0), 1)
		slow := w.role("late", key(2))
		time.Sleep(time.Millisecond)
		r := w.role("first", key(2))
		for n := range MaxReaders + 3 {
			w.read(r, entity(n), 2)
			time.Sleep(time.Millisecond)
			w.read(r, entity(0), 2)
		}
		known := w.of(r.Key).readers()
		for n, want := range map[int]bool{0: true, 1: false, 3: false, 4: true, MaxReaders + 2: true} {
			if known[entity(n).id()] != nil != want {
				t.Errorf("reader %d is remembered: %v", n, !want)
			}
		}
		for n := range MaxAllReaders - len(known) + 1 {
			w.read(w.role(fmt.Sprint("r", n%20), key(2)), entity(n), 2)
		}
		if left := w.of(r.Key).readers(); len(left) != len(known)-2 || w.count != MaxAllReaders {
			t.Errorf("the first role has %d readers, the mount %d", len(left), w.count)
		}
		if late := w.late(slow); len(late) != 1 {
			t.Error("a late reader is forgotten before those that are current")
		}
		long := Reader{Name: strings.Repeat("ä", maxName)}
		w.read(r, long, 2)
		if w.of(r.Key).readers()[readerID{name: strings.Repeat("ä", maxName/2)}] == nil {
			t.Error("a long name is not cut")
		}
	})
}

// TestLateReadersStay: a reader that is late is forgotten only if all are, and then the
// engine says so until all that it may have is retired.
func TestLateReadersStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := w.work()
		r := w.role("r", key(2))
		w.read(r, entity(0), 2)
		time.Sleep(time.Second)
		s := key(3)
		r = w.role("r", s)
		for n := range MaxReaders + 5 {
			w.read(r, entity(1+n), 3)
		}
		w.depends(r, s, "approle, entity entity-0, has version 2")
		s = key(4)
		r = w.role("r", s)
		const forgotten = "readers whom the engine has forgotten, because there are too many"
		says := func(want bool) {
			t.Helper()
			if got := slices.Contains(w.Dependents(r, s), forgotten); got != want || strings.Contains(w.Summary(r), "has forgotten") != want {
				t.Errorf("it says that readers were forgotten: %v", got)
			}
		}
		for n := range 2 {
			says(false)
			w.read(r, entity(-1-n), 3) // by a node that lags
		}
		says(true)
		w.stored()
		stop()
		w.begin()
		defer w.work()()
		says(true)
		s = key(5)
		r = w.role("r", s)
		says(false)
	})
}

// back is s after a rollback.
func back(s *rotation.Secret, version int) *rotation.Secret {
	after, current, previous := *s, *s.Previous, *s.Current
	current.Version, current.RetireTime = version, time.Time{}
	previous.RetireTime = time.Now().Add(time.Hour)
	after.Current, after.Previous = &current, &previous
	return &after
}

// next is s after a rotation.
func next(s *rotation.Secret, version int) *rotation.Secret {
	after, previous := *s, *s.Current
	previous.RetireTime = time.Now().Add(time.Hour)
	after.Current, after.Previous = &rotation.Value{Version: version, Material: rotation.Material{"username": fmt.Sprint("user", version)}}, &previous
	return &after
}

// TestRollbackKeepsReaders: who has the values that a rollback brings back has them in
// their new version, whether all secrets are rolled back or one is.
func TestRollbackKeepsReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, all := range []bool{true, false} {
			w := newWorld(t)
			stop := w.work()
			one, db := key(2), login("db", 2)
			w.read(w.role("r", key(1), login("db", 1)), entity(1), 1)
			r := w.role("r", one, db)
			w.read(r, entity(2), 2)
			one = back(one, 3)
			if all {
				db = back(db, 3)
			}
			r = w.role("r", one, db)
			w.depends(r, one, "approle, entity entity-2, has version 2")
			if got := w.Readers(r); got.Known != 2 || (got.Current == 1) != all {
				t.Errorf("after a rollback of all secrets (%v): %+v", all, got)
			}
			w.stored()
			stop()
			w.begin()
			stop = w.work()
			one, db = next(one, 4), next(db, 4)
			r = w.role("r", one, db)
			w.depends(r, one, "approle, entity entity-1, has version 3")
			w.depends(r, db, map[bool]string{true: "approle, entity entity-1, has version 3", false: "approle, entity entity-2, has version 2"}[all])
			w.read(r, entity(1), 4)
			w.depends(r, one)
			stop()
		}
	})
}

// TestOneSecret: a read of one secret says nothing about the others.
func TestOneSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := w.work()
		one, db := key(2), login("db", 2)
		r := w.role("r", one, db)
		w.read(r, entity(1), 2)
		w.Read(r, entity(2), "key", 2, time.Now())
		one, db = key(3), login("db", 3)
		r = w.role("r", one, db)
		w.depends(r, db, "approle, entity entity-1, has version 2")
		w.depends(r, one, "approle, entity entity-1, has version 2", "approle, entity entity-2, has version 2")
		w.ReadPrevious(r, entity(2), "key", time.Now())
		for range 2 {
			w.Read(r, entity(1), "key", 3, time.Now())
		}
		known := func() {
			t.Helper()
			w.depends(r, db, "approle, entity entity-1, has version 2")
			w.depends(r, one, "approle, entity entity-2, has version 2")
			if got := w.Readers(r); got.Known != 2 || got.Current != 0 {
				t.Errorf("known are %+v", got)
			}
		}
		known()
		w.stored()
		stop()
		w.begin()
		defer w.work()()
		known()
		w.Read(r, entity(1), "db", 3, time.Now())
		w.depends(r, db)
		single := *one
		single.Previous = nil
		r = w.role("r", &single, db)
		if got := w.Readers(r); got.Known != 1 || got.Current != 1 {
			t.Errorf("after the end of the only overlap of a reader: %+v", got)
		}
	})
}

// TestUsesOutliveTheNode: a node that has not counted for long goes by what another one has
// seen.
func TestUsesOutliveTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := key(2)
		r := w.role("r", s)
		w.begin()
		left := map[string]bool{}
		w.unread.Store(&left)
		w.depends(r, s)
		s.Previous.WaitsFor = []string{usedLately}
		w.depends(r, s, usedLately)
		w.Follow(r)
		w.depends(r, s, usedLately)
		time.Sleep(r.Snapshot().Resolved.RefreshInterval + time.Second)
		w.depends(r, s)
	})
}

// stored waits until the worker has done what it was woken for.
func (w *world) stored() (writes int) {
	time.Sleep(settle)
	synctest.Wait()
	return w.store.written()
}

// TestReadersSurvive goes on in a new process, which has readers of its own by then.
func TestReadersSurvive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r, gone := w.role("r", key(4)), w.role("gone", key(4))
		stop := w.work()
		for n := range 4 {
			w.read(r, entity(n), 4)
		}
		w.read(gone, entity(1), 4)
		if n := w.stored(); n != 2 {
			t.Errorf("%d writes for the readers of two roles", n)
		}
		for range 10 { // the steady state
			w.read(r, entity(1), 4)
			w.Follow(r)
			w.Tick()
			synctest.Wait()
		}
		if n := w.store.written(); n != 0 {
			t.Errorf("%d writes while nobody new reads", n)
		}
		r = w.role("r", key(5))
		lastRead := time.Now()
		if n := w.stored(); n != 1 {
			t.Errorf("%d writes after a commit", n)
		}
		w.read(r, entity(0), 5)
		w.Tick()
		synctest.Wait()
		if n := w.store.written(); n != 1 {
			t.Errorf("%d writes after a known reader has read a new version", n)
		}
		stop()

		w.role("gone")
		w.begin()
		time.Sleep(time.Hour)
		w.read(r, entity(2), 5)
		w.read(r, entity(7), 5)
		defer w.work()()
		w.stored()
		if late := w.late(r); !slices.Equal(late, []string{"entity-1approle", "entity-3approle"}) {
			t.Errorf("in the new process, late are %v", late)
		}
		if got := w.Readers(r); got.Known != 5 || got.Current != 3 || len(got.Late) != 2 || !got.Late[1].LastRead.Equal(lastRead) || got.Late[1].Address == "" {
			t.Errorf("the new process knows %+v", got)
		}
		if w.store.entries[Prefix+gone.Key] != "" || w.of(gone.Key) != nil {
			t.Error("the readers of a role that was deleted are still stored")
		}
		w.role("r")
		w.stored()
		if len(w.store.entries) != 0 {
			t.Errorf("stored are %v", w.store.entries)
		}
	})
}

// work runs the worker until the returned function is called.
func (w *world) work() (stop func()) {
	ctx, cancel := context.WithCancel(w.Context())
	go w.Run(ctx)
	synctest.Wait()
	return func() {
		cancel()
		synctest.Wait()
	}
}

// TestBrokenStore loses nothing that could not be read or written at first.
func TestBrokenStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.role("r", key(4))
		stop := w.work()
		w.read(r, entity(1), 4)
		w.stored()
		stop()

		w.begin()
		w.store.breaks(true)
		defer w.work()()
		w.read(r, entity(2), 4)
		w.stored()
		w.store.breaks(false)
		w.Tick()
		synctest.Wait()
		if got := w.Readers(r); got.Known != 2 {
			t.Errorf("known are %+v", got)
		}
		w.role("r")
		w.store.breaks(true)
		w.stored()
		w.store.breaks(false)
		w.Tick()
		synctest.Wait()
		if len(w.store.entries) != 0 {
			t.Errorf("stored are %v", w.store.entries)
		}
	})
}

// TestReadersAtOnce reads in many goroutines while versions change and the worker stores.
func TestReadersAtOnce(t *testing.T) {
	w := newWorld(t)
	r := w.role("r", key(2))
	roles := map[int]*rotation.Role{2: r}
	for version := 3; version < 40; version++ {
		roles[version] = w.role("r", key(version))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go w.Run(ctx)
	var reading sync.WaitGroup
	for n := range 8 {
		reading.Go(func() {
			for version := 2; version < 40; version++ {
				for range 50 {
					w.read(roles[version], entity(n), version)
				}
				w.Follow(roles[version])
				w.Readers(roles[version])
				w.Tick()
			}
		})
	}
	reading.Wait()
	w.Follow(roles[39])
	if got := w.Readers(roles[39]); got.Known != 8 || got.Current != 8 || w.count != 8 {
		t.Errorf("known are %+v, counted %d", got, w.count)
	}
}

// TestDependents says who would be cut off.
func TestDependents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		db := login("db", 5)
		r := w.role("r", key(4), db)
		began, want := time.Now(), []string{"approle, entity entity-1, has version 4", "token-batch, has version 4"}
		w.read(r, entity(1), 4)
		time.Sleep(time.Second)
		w.read(r, Reader{Name: "token-batch"}, 4)
		s := replaced(5)
		r = w.role("r", s, db)
		w.depends(r, s, append([]string{"readers whom the engine has not loaded yet"}, want...)...)
		left := w.load(t.Context(), nil)
		w.unread.Store(&left)
		w.depends(r, s, want...)
		w.depends(r, db, want...)
		if text := w.Summary(r); !strings.Contains(text, "Readers that have the current version: 0 of 2. Late: "+want[0]+", last read at "+clock(began)+"; "+want[1]+", last read at "+clock(began.Add(time.Second))) ||
			!strings.Contains(text, "would cut off those who use the previous values of db, key") {
			t.Errorf("the summary is %s", text)
		}
		w.Used(r, s, secret.StagePrevious)
		w.depends(r, s, append([]string{usedLately}, want...)...)
		time.Sleep(r.Snapshot().Resolved.RefreshInterval + time.Second)
		w.depends(r, s, want...)
		w.read(r, entity(1), 5)
		w.read(r, Reader{Name: "token-batch"}, 5)
		w.depends(r, s)
		for n := range maxNamed + 3 {
			w.read(r, entity(100+n), 4)
		}
		if text := w.Summary(r); len(w.Dependents(r, s)) != maxNamed+3 || !strings.Contains(text, "; and 3 more readers. ") {
			t.Errorf("of many it says %s", text)
		}
		single := login("db", 5)
		single.Config = []byte(`{"connection": "db", "usernames": ["one"], "rotation_strategy": "single_user"}`)
		w.depends(r, single)
		w.depends(r, &rotation.Secret{Name: "admin", Type: "connection", Current: &rotation.Value{}, Previous: inOverlap(1)})
	})
}

func (w *world) depends(r *rotation.Role, s *rotation.Secret, want ...string) {
	w.Helper()
	if got := w.Dependents(r, s); !slices.Equal(got, want) {
		w.Errorf("on the previous value of %s depend %q, want %q", s.Name, got, want)
	}
}

// TestReadAllocatesNothing: nearly every read is by a known reader.
func TestReadAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	r, by := w.role("r", key(2)), entity(1)
	one := entity(2)
	w.read(r, by, 2)
	w.Read(r, one, "key", 2, time.Now())
	if n := testing.AllocsPerRun(1000, func() {
		w.read(r, by, 2)
		w.Read(r, by, "key", 2, time.Now())
		w.Read(r, one, "key", 2, time.Now())
	}); n != 0 {
		t.Errorf("a read by a known reader allocates %v times", n)
	}
}

// BenchmarkRead is a read by known readers, of whom there are few or as many as can be.
func BenchmarkRead(b *testing.B) {
	for _, many := range []int{10, MaxReaders} {
		w := newWorld(b)
		r := w.role("r", key(2))
		for n := range many {
			w.read(r, entity(n), 2)
		}
		b.Run(fmt.Sprintf("readers=%d", many), func(b *testing.B) {
			b.ReportAllocs()
			now := time.Now()
			b.RunParallel(func(pb *testing.PB) {
				for n := 0; pb.Next(); n++ {
					w.Read(r, some[n%len(some)], "", 2, now)
				}
			})
		})
	}
}

// some are readers whose names are made once.
var some = []Reader{entity(0), entity(3), entity(5), entity(7)}
