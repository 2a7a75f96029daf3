package tripwire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/apikey"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/random"
)

// world is what the ports show: a storage in memory, and roles.
type world struct {
	*testing.T
	*Tripwire
	mu        sync.Mutex
	stored    map[string][]byte
	reads     int
	broken    bool
	now       time.Time
	retention time.Duration
	lands     bool          // the next write lands, and is answered with an error
	slow      time.Duration // how long a read takes
	hangs     chan struct{} // if there is one, a write is told here, and waits for another one
	all       []*rotation.Role
	compared  int
	noted     chan string
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, stored: map[string][]byte{}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), retention: 90 * 24 * time.Hour, noted: make(chan string, 16)}
	w.Tripwire = New(Ports{
		Store: w, Roles: w, Types: map[string]secret.Values{"api_key": apikey.New(), "random": random.New(nil)},
		Retention: func(context.Context) (time.Duration, error) { return w.retention, nil },
		Writable:  func() bool { return true },
		Noted:     func(key string) { w.noted <- key },
		Now:       func() time.Time { return w.now },
		Log:       hclog.NewNullLogger,
	})
	w.equal = func(x, y secret.Digest) int {
		w.compared++
		return equal(x, y)
	}
	return w
}

var errBroken = errors.New("storage is broken")

func (w *world) ReadRaw(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	time.Sleep(w.slow)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	if w.broken {
		return nil, errBroken
	}
	return w.stored[key], nil
}

func (w *world) Write(_ context.Context, key string, value any) error {
	if w.hangs != nil {
		w.hangs <- struct{}{}
		w.hangs <- struct{}{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return errBroken
	}
	raw, err := json.Marshal(value)
	w.stored[key] = raw
	if w.lands {
		w.lands = false
		return errBroken
	}
	return err
}

func (w *world) Delete(_ context.Context, key string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.stored, key)
	return nil
}

func (w *world) List(_ context.Context, prefix string) (names []string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.stored {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Readable implements Ports.Roles.
func (w *world) Readable(_ context.Context, prefix string) (all []*rotation.Role, damaged, err error) {
	if prefix == roles.Prefix {
		all = w.all
	}
	return all, nil, nil
}

func pin(v int) *rotation.Value {
	return &rotation.Value{Material: rotation.Material{"value": fmt.Sprintf("the-value-%d", v)}, Version: v}
}

// state has the secret pin, with that current value.
func state(current *rotation.Value) *rotation.State {
	return &rotation.State{Schema: rotation.Schema, Secrets: map[string]*rotation.Secret{"pin": {Name: "pin", Type: "random", Config: []byte("{}"), Current: current}}}
}

func (w *world) role(name string, s *rotation.State) *rotation.Role {
	w.Helper()
	engine := &rotation.Engine{Now: time.Now, Settings: func() rotation.Settings { return rotation.Settings{} }}
	r, err := engine.NewRole("role/"+name, name, s)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

// leaves has a role give up the first of two values.
func (w *world) leaves(r *rotation.Role, v, next int) {
	w.Helper()
	if err := w.Leave(w.Context(), r, state(pin(v)), state(pin(next))); err != nil {
		w.Fatal(err)
	}
}

func (w *world) finds(text string) []Match {
	w.Helper()
	found, _, err := w.Find(w.Context(), text)
	if err != nil {
		w.Fatal(err)
	}
	return found
}

// TestFindComparesAll counts comparisons: as many for a value that is found first, last,
// often or never, so that the time a request takes tells nothing.
func TestFindComparesAll(t *testing.T) {
	w := newWorld(t)
	for i, value := range []int{1, 2, 1} {
		r := w.role(fmt.Sprint(i), state(pin(value)))
		w.all = append(w.all, r)
		w.leaves(r, 10+i, value)
	}
	for text, want := range map[string]int{"the-value-1": 2, "the-value-2": 1, "the-value-12": 1, "the-value-": 0, "x": 0, strings.Repeat("the-value-1", 1000): 0} {
		w.compared = 0
		if found := w.finds(text); len(found) != want {
			t.Errorf("of a text of %d bytes it finds %v", len(text), found)
		}
		if w.compared != 6 {
			t.Errorf("for a text of %d bytes it compares %d times, and there are 6 values", len(text), w.compared)
		}
	}
}

// TestStagesOfValues names every stage that a value can be in, and groups what has to be
// rotated by role.
func TestStagesOfValues(t *testing.T) {
	w := newWorld(t)
	s := state(pin(1))
	s.Secrets["pin"].Previous, s.Secrets["pin"].Pending, s.Secrets["pin"].Next = pin(2), pin(3), pin(4)
	left := state(pin(1))
	left.Secrets["pin"].Unresolved = &rotation.Unresolved{Value: pin(5)}
	w.all = []*rotation.Role{w.role("a", s), w.role("b", left)}
	w.leaves(w.all[0], 6, 1)
	for v, want := range map[int]string{1: "a current, b current", 2: "a previous", 3: "a pending", 4: "a next", 5: "b pending", 6: "a retired"} {
		var stages []string
		found := w.finds(fmt.Sprintf("the-value-%d", v))
		for _, m := range found {
			stages = append(stages, m.Name()+" "+m.Stage)
		}
		if got := strings.Join(stages, ", "); got != want {
			t.Errorf("value %d is %q, want %q", v, got, want)
		}
		if exposed := ExposedBy(found); len(exposed) != len(found) && v != 6 || v == 6 && len(exposed) != 0 {
			t.Errorf("of value %d these have to be rotated: %v", v, exposed)
		}
	}
}

// kept are the retired values of a role.
func (w *world) kept(r *rotation.Role) []value {
	w.Helper()
	values, err := w.valuesKept(w.Context(), Prefix+r.Key)
	if err != nil {
		w.Fatal(err)
	}
	return values
}

// size is how many bytes are stored.
func (w *world) size() (bytes int) {
	for _, raw := range w.stored {
		bytes += len(raw)
	}
	return bytes
}

// TestOldestGoFirst keeps no more of a role than an entry of storage has room for.
func TestOldestGoFirst(t *testing.T) {
	w := newWorld(t)
	r := w.role("r", state(pin(0)))
	err := w.change(t.Context(), w.of(r.Key), func(e *entry) error {
		for v := range MaxValues {
			left, _ := w.retired(*state(nil).Secrets["pin"], pin(v))
			e.add(left)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.leaves(r, MaxValues, 0)
	w.leaves(r, MaxValues+1, 0)
	for v, want := range map[int]int{0: 0, pageSize - 1: 0, pageSize: 1, MaxValues + 1: 1} {
		if found := w.finds(fmt.Sprintf("the-value-%d", v)); len(found) != want {
			t.Errorf("of value %d it finds %v", v, found)
		}
	}
	if size := w.size(); size > 256<<10 {
		t.Errorf("the entry and its pages have %d bytes", size)
	}
}

// presented is the value of that number, as somebody presents it.
func presented(v int) Presented {
	return Presented{Secret: "pin", Type: "random", Text: fmt.Sprintf("the-value-%d", v), Address: "192.0.2.7"}
}

// recognizes presents values, each of which has to be recognized.
func (w *world) recognizes(r *rotation.Role, values ...int) {
	w.Helper()
	for _, v := range values {
		if retired, err := w.Recognize(w.Context(), r, presented(v)); !retired || err != nil {
			w.Errorf("value %d is %t, %v", v, retired, err)
		}
	}
}

// forgets presents values, none of which may be recognized.
func (w *world) forgets(r *rotation.Role, values ...int) {
	w.Helper()
	for _, v := range values {
		if retired, err := w.Recognize(w.Context(), r, presented(v)); retired || err != nil {
			w.Errorf("value %d is %t, %v", v, retired, err)
		}
	}
}

// TestDroppedValuesAreForgotten: what storage has no more is not recognized either, without
// a restart, whether it was too much, or the retention was shorter for a while.
func TestDroppedValuesAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.ports.Noted = func(string) {} // nobody waits for it
	r := w.role("r", state(pin(1)))
	w.forgets(r, 1000_000)
	for v := range MaxValues + 2*pageSize {
		w.leaves(r, v, v+1)
	}
	w.forgets(r, 0, 2*pageSize-1)
	w.recognizes(r, 2*pageSize, MaxValues+2*pageSize-1)
	if found := len(w.kept(r)); found > MaxValues || found < MaxValues-pageSize {
		t.Errorf("%d values are kept", found)
	}
	w.retention = 0
	w.dropExpired(t.Context())
	w.retention = 90 * 24 * time.Hour
	w.forgets(r, 2*pageSize, MaxValues)
}

// TestFindWaitsForNoWrite has a role's write hang, while somebody asks about all roles.
func TestFindWaitsForNoWrite(t *testing.T) {
	w := newWorld(t)
	r := w.role("r", state(pin(1)))
	w.leaves(r, 1, 2)
	w.hangs = make(chan struct{})
	left := make(chan struct{})
	go func() { defer close(left); w.leaves(r, 2, 3) }()
	<-w.hangs
	found := make(chan []Match)
	go func() { found <- w.finds("the-value-1") }()
	select {
	case matches := <-found:
		if len(matches) != 1 {
			t.Errorf("found is %v", matches)
		}
	case <-time.After(20 * time.Second):
		t.Error("it waits for the write")
	}
	<-w.hangs
	<-left
}

// TestKeysWithOneID retires two keys that were imported with the same id: a token that
// names it is one event, and the later key is recognized for as long as it is kept.
func TestKeysWithOneID(t *testing.T) {
	key := func(version int, at time.Time) value {
		return value{Secret: "jwt", Type: "jwt", Version: version, Retired: at, Digests: []secret.Digest{secret.DigestOf(fmt.Sprint(version))}, KeyID: "theirs"}
	}
	for _, order := range [][]int{{0, 80}, {80, 0}} {
		w := newWorld(t)
		w.ports.Noted = func(string) {} // nobody waits for it
		r := w.role("r", state(pin(1)))
		err := w.change(t.Context(), w.of(r.Key), func(e *entry) error {
			for _, day := range order {
				e.add(key(day, w.now.AddDate(0, 0, day)))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		w.now = w.now.AddDate(0, 0, 95)
		if retired, err := w.Recognize(t.Context(), r, Presented{Secret: "jwt", Type: "jwt", KeyID: "theirs"}); !retired || err != nil || !w.storeUses(t.Context()) {
			t.Errorf("a token is %t, %v", retired, err)
		}
		if uses, err := w.Uses(t.Context(), r, 0); err != nil || len(uses) != 1 {
			t.Errorf("the uses are %v, %v", uses, err)
		}
	}
}

// TestWhoGivesUpKeepsNobody presents a retired value after a request that was given up.
func TestWhoGivesUpKeepsNobody(t *testing.T) {
	w := newWorld(t)
	r := w.role("r", state(pin(1)))
	w.leaves(r, 1, 2)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = w.Recognize(gone, r, presented(1))
	w.recognizes(r, 1)
}

// TestAWriteThatLanded answers an error: tried again, there is nothing to write, and the
// value is recognized.
func TestAWriteThatLanded(t *testing.T) {
	w := newWorld(t)
	r := w.role("r", state(pin(1)))
	w.forgets(r, 1)
	w.lands = true
	if err := w.Leave(t.Context(), r, state(pin(1)), state(pin(2))); !errors.Is(err, errBroken) {
		t.Errorf("it ends with %v", err)
	}
	w.leaves(r, 1, 2)
	w.recognizes(r, 1)
}

// TestAWriteThatDropped lands and answers an error: what it dropped is not recognized.
func TestAWriteThatDropped(t *testing.T) {
	w := newWorld(t)
	r := w.role("r", state(pin(1)))
	w.leaves(r, 1, 2)
	w.now = w.now.Add(time.Hour)
	w.leaves(r, 2, 3)
	w.recognizes(r, 1)
	w.retention, w.lands = 30*time.Minute, true
	if err := w.Leave(t.Context(), r, state(pin(3)), state(pin(4))); !errors.Is(err, errBroken) {
		t.Errorf("it ends with %v", err)
	}
	w.leaves(r, 3, 4)
	w.retention = 90 * 24 * time.Hour
	w.forgets(r, 1)
	w.recognizes(r, 2, 3)
}

// TestAUseIsToldOnce where values are dropped before it is stored, and where the write of
// it lands and answers an error.
func TestAUseIsToldOnce(t *testing.T) {
	for _, lands := range []bool{false, true} {
		w := newWorld(t)
		w.ports.Noted = func(string) {} // nobody waits for it
		r := w.role("r", state(pin(1)))
		w.leaves(r, 1, 2)
		w.now = w.now.Add(w.retention - 30*time.Minute)
		w.leaves(r, 2, 3)
		w.recognizes(r, 2)
		w.now = w.now.Add(30 * time.Minute)
		w.leaves(r, 3, 4)
		w.forgets(r, 1)
		w.lands = lands
		if w.storeUses(t.Context()) == lands || lands && !w.storeUses(t.Context()) {
			t.Errorf("lands=%t: it is not stored when it is tried again, or counts as stored before", lands)
		}
		w.now = w.now.Add(29 * time.Minute)
		w.recognizes(r, 2)
		w.storeUses(t.Context())
		if uses, err := w.Uses(t.Context(), r, 0); err != nil || len(uses) != 1 || uses[0].Number != 1 {
			t.Errorf("lands=%t: the uses are %v, %v", lands, uses, err)
		}
	}
}

// TestCrowd asks at once while storage is broken, and slow to say so: it is asked once.
func TestCrowd(t *testing.T) {
	w := newWorld(t)
	r := w.role("r", state(pin(1)))
	w.broken, w.slow = true, 50*time.Millisecond
	var crowd sync.WaitGroup
	for range 50 {
		crowd.Go(func() { w.forgets(r, 1) })
	}
	crowd.Wait()
	if w.reads != 1 {
		t.Errorf("storage is read %d times", w.reads)
	}
}

// TestUsesThatAreGone costs no reads for ever: the value with the latest use was dropped.
func TestUsesThatAreGone(t *testing.T) {
	w := newWorld(t)
	w.ports.Noted = func(string) {} // nobody waits for it
	r := w.role("r", state(pin(1)))
	w.leaves(r, 1, 2)
	w.recognizes(r, 1)
	w.storeUses(t.Context())
	w.now = w.now.Add(w.retention)
	w.dropExpired(t.Context())
	before := w.reads
	for range 5 {
		if uses, err := w.Uses(t.Context(), r, 0); err != nil || len(uses) != 0 {
			t.Errorf("the uses are %v, %v", uses, err)
		}
	}
	if w.reads > before+1 {
		t.Errorf("5 questions read storage %d times", w.reads-before)
	}
}

// TestPages gives up values one after the other. What is written each time does not grow
// with them, and what is no longer in the entry itself is recognized as before: the use of
// such a value is told once an hour, also after restarts.
func TestPages(t *testing.T) {
	w := newWorld(t)
	w.ports.Noted = func(string) {} // nobody waits for it
	r := w.role("r", state(pin(1)))
	w.forgets(r, 1000) // has it read
	for v := range 260 {
		w.leaves(r, v, v+1)
		if size := len(w.stored["retired/role/r"]); size > 20_000 {
			t.Fatalf("after %d retirements the entry has %d bytes", v+1, size)
		}
	}
	if pages := len(w.stored) - 1; pages != 4 {
		t.Errorf("there are %d pages", pages)
	}
	for _, fresh := range []bool{false, true} {
		if fresh {
			w.Invalidate(pageKey("retired/role/r", 1))
		}
		w.recognizes(r, 0, 49, 50, 199, 200, 259)
		if found := len(w.kept(r)); found != 260 || len(w.finds("the-value-0")) != 1 || len(w.finds("the-value-259")) != 1 {
			t.Errorf("%d values are kept", found)
		}
		if !w.storeUses(t.Context()) {
			t.Fatal("the uses are not stored")
		}
		uses, err := w.Uses(t.Context(), r, 0)
		if err != nil || len(uses) != 6 || uses[0].Address != "192.0.2.7" {
			t.Errorf("the uses are %v, %v", uses, err)
		}
	}
	w.now = w.now.Add(noteAgain)
	w.recognizes(r, 0, 0, 259)
	w.storeUses(t.Context())
	if uses, err := w.Uses(t.Context(), r, 6); err != nil || len(uses) != 2 {
		t.Errorf("an hour later the uses are %v, %v", uses, err)
	}
	w.leaves(r, 0, 300) // given up again: one value, with its use
	if uses, err := w.Uses(t.Context(), r, 6); err != nil || len(uses) != 2 || len(w.finds("the-value-0")) != 1 {
		t.Errorf("given up again, the uses are %v, %v", uses, err)
	}
	w.now = w.now.Add(w.retention)
	w.dropExpired(t.Context())
	for key := range w.stored {
		if key != "retired/role/r" {
			t.Errorf("after the retention there is %s", key)
		}
	}
}

// TestEntryOfBefore has all values in one entry, as earlier versions stored them.
func TestEntryOfBefore(t *testing.T) {
	w := newWorld(t)
	r := w.role("r", state(pin(1)))
	old := entry{Uses: 3}
	for v := range MaxValues {
		left, _ := w.retired(*state(nil).Secrets["pin"], pin(v))
		if v%100 == 0 {
			left.Use = &Use{Number: v/100 + 1, At: w.now}
		}
		old.Values = append(old.Values, left)
	}
	old.Uses = 10
	if err := w.Write(t.Context(), "retired/role/r", old); err != nil {
		t.Fatal(err)
	}
	w.recognizes(r, 0, 500, MaxValues-1)
	w.leaves(r, MaxValues, 0)
	w.Invalidate("retired/role/r")
	w.recognizes(r, pageSize, 500, MaxValues)
	if uses, err := w.Uses(t.Context(), r, 1); err != nil || len(uses) != 9 || len(w.kept(r)) != MaxValues-pageSize+1 {
		t.Errorf("%d values are kept, with the uses %v, %v", len(w.kept(r)), uses, err)
	}
}

// TestPagesOfACrash drops pages that no entry names: a process has ended before it wrote
// the entry, or before it deleted them.
func TestPagesOfACrash(t *testing.T) {
	w := newWorld(t)
	r := w.role("r", state(pin(1)))
	for v := range 2*pageSize + 1 {
		w.leaves(r, v, v+1)
	}
	for _, key := range []string{"retired/role/r", "retired/role/deleted"} {
		if err := w.Write(t.Context(), pageKey(key, 7), entry{}); err != nil {
			t.Fatal(err)
		}
	}
	w.dropExpired(t.Context())
	if len(w.stored) != 2 || len(w.kept(r)) != 2*pageSize+1 {
		t.Errorf("there are %d entries with %d values", len(w.stored), len(w.kept(r)))
	}
}

// TestSweepGoesOn has the entry of one role not be stored: those of the others are.
func TestSweepGoesOn(t *testing.T) {
	w := newWorld(t)
	a, b := w.role("a", state(pin(1))), w.role("b", state(pin(1)))
	for v := range 2 {
		w.leaves(a, v, v+1)
		w.leaves(b, v, v+1)
		w.now = w.now.Add(w.retention - time.Hour)
	}
	w.now = w.now.Add(2*time.Hour - w.retention) // the first ones have been kept for long enough
	w.lands = true
	w.dropExpired(t.Context())
	if left := len(w.kept(b)); left != 1 {
		t.Errorf("of the role after the one that could not be stored, %d values are left", left)
	}
}

// TestDamagedEntryKeepsItsPages has the entry of a role be damaged: the values in pages are
// still recognized, and alerts, which have told of earlier uses, tell of further ones.
func TestDamagedEntryKeepsItsPages(t *testing.T) {
	w := newWorld(t)
	w.ports.Noted = func(string) {} // nobody waits for it
	r := w.role("r", state(pin(1)))
	for v := range 260 {
		w.leaves(r, v, v+1)
	}
	w.recognizes(r, 0, 259)
	w.storeUses(t.Context())
	told, err := w.Uses(t.Context(), r, 0)
	if err != nil || len(told) != 2 {
		t.Fatalf("the uses are %v, %v", told, err)
	}
	for _, mend := range []func(){
		func() { w.leaves(r, 300, 301) },
		func() { w.dropExpired(t.Context()) },
		func() { w.recognizes(r, 0, 100); w.storeUses(t.Context()) },
	} {
		w.stored["retired/role/r"] = []byte(`{"values": [`)
		w.Invalidate("retired/role/r")
		w.now = w.now.Add(noteAgain)
		mend()
		w.dropExpired(t.Context())
		if raw := w.stored["retired/role/r"]; !json.Valid(raw) {
			t.Errorf("stored is %s", raw)
		}
		w.recognizes(r, 0, 0, 199)
		w.storeUses(t.Context())
		later, err := w.Uses(t.Context(), r, told[len(told)-1].Number)
		if err != nil || len(later) < 2 {
			t.Fatalf("the later uses are %v, %v", later, err)
		}
		told = later
	}
}

// BenchmarkKept reports what a role with 300 retired values takes in memory.
func BenchmarkKept(b *testing.B) {
	w := newWorld(&testing.T{})
	var e entry
	for v := range 300 {
		e.add(value{Secret: "jwt", Type: "jwt", Version: v, Retired: w.now, Digests: []secret.Digest{secret.DigestOf(fmt.Sprint(v))}, KeyID: fmt.Sprint("kid-", v)})
	}
	if err := w.Write(b.Context(), "retired/role/r", e); err != nil {
		b.Fatal(err)
	}
	var before, after runtime.MemStats
	all := make([]*kept, 0, b.N)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range b.N {
		k := &kept{key: "retired/role/r", lastUse: -1}
		if err := w.learn(b.Context(), k); err != nil {
			b.Fatal(err)
		}
		all = append(all, k)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/float64(len(all)), "B/role")
	runtime.KeepAlive(all)
}

// TestFloodReadsNothing presents what was never a value, with storage that works and one
// that does not.
func TestFloodReadsNothing(t *testing.T) {
	for _, broken := range []bool{false, true} {
		w := newWorld(t)
		r := w.role("r", state(pin(1)))
		w.broken = broken
		for i := range 100 {
			if retired, err := w.Recognize(t.Context(), r, Presented{Secret: "pin", Type: "random", Text: fmt.Sprint("made-up-", i)}); retired || err != nil {
				t.Errorf("it is %t, %v", retired, err)
			}
		}
		if w.reads != 1 {
			t.Errorf("broken=%t: 100 requests read storage %d times", broken, w.reads)
		}
		w.broken, w.now = false, w.now.Add(readAgain)
		w.leaves(r, 1, 2)
		if retired, err := w.Recognize(t.Context(), r, Presented{Secret: "pin", Type: "random", Text: "the-value-1"}); !retired || err != nil {
			t.Errorf("broken=%t: a retired value is %t, %v", broken, retired, err)
		}
		if retired, err := w.Recognize(t.Context(), r, Presented{Secret: "pin", Type: "api_key", Text: "the-value-1"}); retired || err != nil {
			t.Errorf("broken=%t: a value that another type had is %t, %v", broken, retired, err)
		}
	}
}

// TestUseOutlivesFaults stores a use when storage works again, once, and keeps it when the
// same value is given up again after a crash.
func TestUseOutlivesFaults(t *testing.T) {
	w := newWorld(t)
	r := w.role("r", state(pin(1)))
	w.leaves(r, 1, 2)
	if retired, err := w.Recognize(t.Context(), r, Presented{Secret: "pin", Type: "random", Text: "made-up"}); retired || err != nil {
		t.Errorf("a made-up value is %t, %v", retired, err)
	}
	p := Presented{Secret: "pin", Type: "random", Text: "the-value-1", Actor: rotation.Actor{DisplayName: strings.Repeat("é", 1000)}, Address: "192.0.2.7"}
	w.broken = true
	for range 3 {
		if retired, err := w.Recognize(t.Context(), r, p); !retired || err != nil {
			t.Errorf("it is %t, %v", retired, err)
		}
	}
	if w.storeUses(t.Context()) {
		t.Error("a use is stored in broken storage")
	}
	w.broken = false
	if !w.storeUses(t.Context()) || <-w.noted != "role/r" {
		t.Error("the use is not stored when storage works again")
	}
	w.now = w.now.Add(noteAgain - time.Second)
	if retired, err := w.Recognize(t.Context(), r, p); !retired || err != nil || len(w.of("role/r").waiting()) != 0 {
		t.Errorf("within an hour it is %t, %v, and noted again", retired, err)
	}
	w.leaves(r, 1, 2)
	uses, err := w.Uses(t.Context(), r, 0)
	if err != nil || len(uses) != 1 || uses[0].Number != 1 || uses[0].Address != "192.0.2.7" || len(uses[0].Actor.DisplayName) > maxActor+3 {
		t.Errorf("the uses are %v, %v", uses, err)
	}
	if later, err := w.Uses(t.Context(), r, 1); err != nil || len(later) != 0 {
		t.Errorf("the uses after that are %v, %v", later, err)
	}
}

// TestWriteFailsGivesUpNothing has the state not saved whose value would be forgotten.
func TestWriteFailsGivesUpNothing(t *testing.T) {
	w := newWorld(t)
	r := w.role("r", state(pin(1)))
	w.broken = true
	if err := w.Leave(t.Context(), r, state(pin(1)), state(pin(2))); !errors.Is(err, errBroken) {
		t.Errorf("it ends with %v", err)
	}
	if err := w.Leave(t.Context(), r, state(pin(1)), state(pin(1))); err != nil {
		t.Errorf("where nothing is given up it ends with %v", err)
	}
}

// TestMadeUpTokens names retired keys in tokens: for all of them one use an hour is noted,
// also after a restart. The use of a retired API key is noted meanwhile.
func TestMadeUpTokens(t *testing.T) {
	w := newWorld(t)
	w.ports.Noted = func(string) {} // nobody waits for it
	r := w.role("r", state(pin(1)))
	w.leaves(r, 1, 2)
	err := w.change(t.Context(), w.of(r.Key), func(e *entry) error {
		for i := range 100 {
			e.add(value{Secret: "jwt", Type: "jwt", Version: i, Retired: w.now, Digests: []secret.Digest{secret.DigestOf(fmt.Sprint(i))}, KeyID: fmt.Sprint("kid-", i)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	made := func() {
		for i := range 100 {
			if retired, err := w.Recognize(t.Context(), r, Presented{Secret: "jwt", Type: "jwt", KeyID: fmt.Sprint("kid-", i)}); !retired || err != nil {
				t.Errorf("key %d is %t, %v", i, retired, err)
			}
			w.storeUses(t.Context())
		}
	}
	uses := func(want int) {
		t.Helper()
		if noted, err := w.Uses(t.Context(), r, 0); err != nil || len(noted) != want {
			t.Errorf("%d uses are noted, want %d: %v", len(noted), want, err)
		}
	}
	made()
	uses(1)
	if _, err := w.Recognize(t.Context(), r, Presented{Secret: "pin", Type: "random", Text: "the-value-1"}); err != nil || !w.storeUses(t.Context()) {
		t.Error(err)
	}
	uses(2)
	w.Invalidate(Prefix + r.Key) // as after a restart
	w.now = w.now.Add(noteAgain - time.Second)
	made()
	uses(2)
	w.now = w.now.Add(time.Second)
	made()
	if noted, err := w.Uses(t.Context(), r, 2); err != nil || len(noted) != 1 || !noted[0].Token {
		t.Errorf("after an hour %v, %v", noted, err)
	}
}

// TestEntriesFitStorage has a role with as many values as can be, all used by who has the
// longest name: it still gives up values, the latest uses are told, and none is noted
// twice. Where values alone are too many, the oldest go.
func TestEntriesFitStorage(t *testing.T) {
	for secretName, all := range map[string]bool{"pin": true, strings.Repeat("n", 300): false} {
		w := newWorld(t)
		r := w.role("r", state(pin(1)))
		actor := bounded(rotation.Actor{DisplayName: strings.Repeat("<", 1000), EntityID: strings.Repeat("e", 36)})
		err := w.change(t.Context(), w.of(r.Key), func(e *entry) error {
			for v := range MaxValues {
				e.add(value{Secret: secretName, Type: "random", Version: v, Retired: w.now, Digests: []secret.Digest{secret.DigestOf(fmt.Sprint(v))}})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		kept := w.kept(r)
		for _, v := range slices.Backward(kept) { // the oldest is used last
			w.of(r.Key).note(v.mark(), Use{At: w.now, Actor: actor, Address: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"})
		}
		if !w.storeUses(t.Context()) {
			t.Fatal("the uses are not stored")
		}
		w.leaves(r, 1, 2)
		if size := w.size(); size > maxBytes || size < maxBytes/2 {
			t.Errorf("the entry and its pages have %d bytes", size)
		}
		if found := w.finds("the-value-1"); len(found) != 1 {
			t.Errorf("of the newest value it finds %v", found)
		}
		left := w.kept(r)
		if all != (len(left) == MaxValues-pageSize+1) || len(left) < 100 {
			t.Errorf("%d values are left of %d", len(left), len(kept))
		}
		uses, err := w.Uses(t.Context(), r, 0)
		if err != nil || len(uses) < 100 || uses[len(uses)-1].Actor != actor || uses[0].Actor != (rotation.Actor{}) {
			t.Errorf("%d uses are left, %v", len(uses), err)
		}
		if err := w.learn(t.Context(), w.of(r.Key)); err != nil {
			t.Fatal(err)
		}
		for _, v := range left {
			if found, due, _ := w.of(r.Key).find(v.mark(), w.now, w.retention); !found || due && v.Use != nil {
				t.Fatalf("version %d is recognized: %t, and its use is noted again: %t", v.Version, found, due)
			}
		}
	}
}
