package rotation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"
)

// world is everything outside the engine: the clock, the storage, the databases.
// All of it is reached through call, which is where faults happen and where the
// invariants that hold at every moment are checked.
type world struct {
	mu        sync.Mutex
	clock     time.Time
	made      int                  // materials and ids made so far, so that each is new
	users     map[string]string    // what the database accepts: user to password
	place     string               // where the database is reached; "" at first
	gone      map[string]bool      // keys that were destroyed
	open      map[string]int       // sessions by the password that opened them
	late      map[string]bool      // what readers still have who have not read what replaced it
	prolonged map[string]time.Time // by value, how long it may be valid because readers could not read
	outage    time.Duration        // how long nothing runs after the process has died
	began     time.Time            // when the process did, or since when readers are answered
	state     []byte               // what storage holds under the role's key
	stored    *State               // the same, decoded
	entries   map[int]Entry        // the history in storage
	used      map[string]string    // "version/secret" to material, for ever
	known     map[string]bool      // what is kept of values that were shown
	adrift    map[string]bool      // materials that storage holds and that stopped working by themselves

	calls   []string
	faults  []fault
	named   []*namedFault
	always  map[string]fault
	dead    bool
	pauses  int               // how often the process was paused for long
	forward int               // how often what was unresolved became current
	hooks   map[string]func() // run before the call of that name; set before use
	broken  []string          // invariants that did not hold, with the call they broke at

	tasks    []Task          // what is planned around every operation
	sick     bool            // the application does not get on with what is current
	asks     []string        // the secrets whose retired values it is asked to refuse
	asked    map[string]bool // "version/secret" of the values that it was asked to refuse
	settings Settings
	engine   *Engine
	role     *Role
	stop     context.CancelFunc
	recorded map[string]string // operation id to the hash of its entry, as told by Engine.Recorded
}

const roleKey = "role/default"

var (
	errFault = errors.New("injected fault")
	errDead  = errors.New("the process has died")
)

// how says what an injected fault does.
type how string

const (
	once     how = "error once"
	forever  how = "error for ever"
	death    how = "death"
	refused  how = "refused"
	refuses  how = "refused for ever"
	lies     how = "answered without being done"
	refusal  how = "change refused once"
	refusals how = "change refused for ever"
)

// fault strikes at the call with that number, before or after it has landed.
type fault struct {
	at     int
	landed bool
	how    how
}

func (f fault) String() string {
	when := "before"
	if f.landed {
		when = "after"
	}
	return fmt.Sprintf("%s %s call %d", f.how, when, f.at)
}

// namedFault strikes at a call of that name, after as many that it lets pass.
type namedFault struct {
	name string
	pass int
	fault
}

// fail makes the next call of that name fail, after as many that pass.
func (w *world) fail(name string, pass int, f fault) {
	w.named = append(w.named, &namedFault{name, pass, f})
}

func newWorld() *world {
	return &world{
		clock: time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC),
		users: map[string]string{"app": "made-by-hand"}, gone: map[string]bool{}, open: map[string]int{}, late: map[string]bool{}, known: map[string]bool{},
		entries: map[int]Entry{}, used: map[string]string{}, adrift: map[string]bool{},
		always: map[string]fault{}, prolonged: map[string]time.Time{}, recorded: map[string]string{}, asked: map[string]bool{},
	}
}

// clone copies the world as storage and targets are now, without its engine.
func (w *world) clone() *world {
	c := newWorld()
	c.clock, c.made, c.state, c.stored, c.settings = w.clock, w.made, w.state, w.stored, w.settings
	c.adrift, c.open, c.late, c.known = maps.Clone(w.adrift), maps.Clone(w.open), maps.Clone(w.late), maps.Clone(w.known)
	c.prolonged, c.outage = maps.Clone(w.prolonged), w.outage
	c.tasks, c.sick, c.place, c.asks, c.asked = w.tasks, w.sick, w.place, w.asks, maps.Clone(w.asked)
	c.users, c.gone, c.entries, c.used = maps.Clone(w.users), maps.Clone(w.gone), maps.Clone(w.entries), maps.Clone(w.used)
	return c
}

// call does one side effect, unless a fault is in the way.
func (w *world) call(name string, effect func() error) error {
	if hook := w.hooks[name]; hook != nil {
		hook()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return errDead
	}
	f, hit := w.strikes(name)
	if !hit {
		return w.land(name, effect)
	}
	if f.landed {
		_ = w.land(name, effect)
	}
	switch f.how {
	case death:
		w.dead = true
		w.stop()
		return errDead
	case lies:
		return nil
	case refusal, refusals:
		return Unchanged(fmt.Errorf("%s: %w", name, errFault))
	case refused, refuses:
		return fmt.Errorf("%s: %w", name, ErrRefused)
	}
	return fmt.Errorf("%s: %w", name, errFault)
}

func (w *world) strikes(name string) (fault, bool) {
	at := len(w.calls)
	w.calls = append(w.calls, name)
	for _, f := range w.faults {
		if f.at != at {
			continue
		}
		if f.how == forever || f.how == refuses || f.how == refusals {
			w.always[name] = f
		}
		return f, true
	}
	for _, f := range w.named {
		if f.name != name {
			continue
		}
		if f.pass--; f.pass == -1 {
			return f.fault, true
		}
	}
	f, hit := w.always[name]
	return f, hit
}

func (w *world) land(name string, effect func() error) error {
	err := effect()
	w.watch(name)
	return err
}

// heal ends all faults, those to come as well.
func (w *world) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults, w.named = nil, nil
	clear(w.always)
}

func (w *world) breakf(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf("at call %d: ", len(w.calls)-1)+fmt.Sprintf(format, args...))
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

func (w *world) next(prefix string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made++
	return fmt.Sprintf("%s-%d", prefix, w.made)
}

// boot starts a process: a new engine with the role as storage has it.
func (w *world) boot(t testing.TB) {
	t.Helper()
	w.mu.Lock()
	state := w.state
	w.dead, w.began = false, w.clock
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	w.engine = &Engine{
		Store:   (*store)(w),
		Drivers: w.drivers(),
		Now:     w.now, NewID: func() string { return w.next("op") },
		Cron:     parseEvery,
		Settings: func() Settings { return w.settings },
		Changed:  func(*Role) {},
		Recorded: w.record,
		Context:  ctx, Hooks: (*around)(w), Dependents: w.dependents,
	}
	var s *State
	if state != nil {
		var err error
		if s, err = Decode(state); err != nil {
			t.Fatalf("decode stored state: %v\n%s", err, state)
		}
	}
	role, err := w.engine.NewRole(roleKey, "default", s)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.role = role
	w.mu.Unlock()
}

// resume is boot of a process that has answered readers for a refresh interval already.
func (w *world) resume(t testing.TB) {
	t.Helper()
	w.boot(t)
	w.began = w.began.Add(-w.role.Snapshot().Resolved.RefreshInterval)
	for name, one := range w.role.shown {
		w.role.shown[name] = shown{one.replaced, w.began}
	}
}

func (w *world) record(_ *Role, r Record, e Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.ID == "" || e.Hash == "" {
		w.breakf("a record without id or hash was announced: %+v", r)
	}
	w.recorded[r.ID] = e.Hash
}

// do starts an operation and waits for its end.
func (w *world) do(req Request) (Record, error) {
	req.Waits = req.Trigger == TriggerManual
	run, err := w.role.Start(context.Background(), req)
	if err != nil {
		return Record{}, err
	}
	<-run.Done()
	w.given(run)
	return run.Result()
}

// idle is the scheduler: it does what the role wants done within the horizon,
// moving the clock, restarting the process when it dies. It reports whether
// nothing was left to do.
func (w *world) idle(t testing.TB, horizon time.Duration, attempts int) bool {
	t.Helper()
	end, still := w.now().Add(horizon), 0
	for range attempts {
		now := w.now()
		a := w.role.Snapshot().NextAction(now)
		if a.Kind == "" || a.At.After(end) {
			return true
		}
		if a.At.After(now) {
			w.advance(a.At.Sub(now))
			still = 0
		}
		if still++; still > 5 {
			w.mu.Lock()
			w.breakf("the scheduler spins on %s", a.Kind)
			w.mu.Unlock()
			return false
		}
		_, _ = w.do(Request{Kind: a.Kind, Trigger: TriggerSchedule})
		if w.isDead() {
			w.restart(t)
		}
	}
	return false
}

// restart is boot after the process has died.
func (w *world) restart(t testing.TB) {
	t.Helper()
	w.advance(w.outage)
	w.boot(t)
}

func (w *world) isDead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead
}
