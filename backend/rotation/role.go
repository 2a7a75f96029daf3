package rotation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Engine holds what all roles share. Its fields are set once, before use.
type Engine struct {
	Store   Store
	Drivers map[string]Driver
	// Now is the clock.
	Now func() time.Time
	// NewID makes the id of an operation.
	NewID func() string
	// Cron reads a schedule, quickly where it was read before; its error says what is
	// wrong with it.
	Cron func(expression string) (Schedule, error)
	// Settings returns the mount's configuration as it is now.
	Settings func() Settings
	// Compare lists what people have written otherwise, for the record of it. Nil is for
	// states of which nobody writes anything.
	Compare func(before, after *State) []Difference
	// Leave is called before a state takes the place of another one. An error keeps it from
	// being saved. Nil is for states whose values nobody has to recognize later.
	Leave func(ctx context.Context, r *Role, before, after *State) error
	// Changed is called after a role's state or run changed, so that the
	// scheduler can plan again. It must not block.
	Changed func(*Role)
	// Recorded is called for each record once it is part of a saved state.
	Recorded func(*Role, Record, Entry)
	// Hooks are what operations have around them.
	Hooks Hooks
	// Dependents names who needs the previous value of a secret still, as far as is known,
	// such as readers who have not read the current one. s.Previous.WaitsFor has those that
	// it named last, maybe on another node. It must not block; nil stands for nobody.
	Dependents func(r *Role, s *Secret) []string
	// Context ends when the backend is cleaned up; runs stop then and are
	// recovered by whoever comes next.
	Context context.Context
}

// Settings are the parts of the mount's configuration that rotations need.
type Settings struct {
	Defaults Defaults
	// Environment is the label that goes into every record.
	Environment string
	// Retention is how many history entries a role keeps, and MaxAge for how long;
	// zero means all, and for ever. What exceeds either may be dropped.
	Retention int
	MaxAge    time.Duration
}

// Role is a role in memory: what storage holds, and the run under way.
type Role struct {
	// Key is where the state is stored, Name what people call the role.
	Key, Name string
	engine    *Engine
	// snapshot is what readers see: immutable, replaced after each save.
	snapshot atomic.Pointer[Snapshot]
	// run is the operation under way, nil if there is none. It is set under mu.
	run atomic.Pointer[Run]
	// mu serialises saves and guards the fields below.
	mu sync.Mutex
	// saves counts the writes of the state that worked, stalls the runs in a row
	// that failed without one.
	saves, stalls int
	// answered is the operation whose answer, lost at first, was given since.
	answered string
	// moved is closed when the state is saved next.
	moved chan struct{}
	// appended is the sequence number of the newest entry known to be appended.
	appended int
	// shown is, by secret, since when readers can have read what replaced a previous value.
	shown map[string]shown
	// turn is held by whoever makes or removes a secret by request.
	turn chan struct{}
	// noting is held while a note is added.
	noting sync.Mutex
}

// Snapshot is a state together with what its policy works out to.
type Snapshot struct {
	*State
	Resolved ResolvedPolicy
	// Unsure says that storage did not answer for the last save: what it holds
	// may be newer than State, and is loaded before anything is changed.
	Unsure bool
	// NotBefore keeps a role whose failure storage could not note from being
	// tried again at once.
	NotBefore time.Time
	memo      sync.Map
}

// open reports whether an operation was interrupted, or may have been.
func (s *Snapshot) open() bool { return s.InFlight != nil || s.Unsure }

// Memo returns what work made of this snapshot under that key, and does it only
// once: what follows from a state is worth keeping as long as the state, and not
// longer, because it may hold secrets.
func (s *Snapshot) Memo(key string, work func() any) any {
	if made, ok := s.memo.Load(key); ok {
		return made
	}
	made, _ := s.memo.LoadOrStore(key, work())
	return made
}

// Try is Memo for work that can fail. It keeps no failure, which may be over by the next
// call.
func (s *Snapshot) Try(key string, work func() (any, error)) (any, error) {
	if made, ok := s.memo.Load(key); ok {
		return made, nil
	}
	made, err := work()
	if err != nil {
		return nil, err
	}
	made, _ = s.memo.LoadOrStore(key, made)
	return made, nil
}

// NewRole wraps a state that is already stored under key, or nil for a new role.
func (e *Engine) NewRole(key, name string, s *State) (*Role, error) {
	r := &Role{Key: key, Name: name, engine: e, moved: make(chan struct{}), turn: make(chan struct{}, 1)}
	return r, r.publish(existing(s))
}

// existing stands in for the state of a role that was never stored.
func existing(s *State) *State {
	if s == nil {
		return &State{Schema: Schema, Deleted: true}
	}
	return s
}

// Snapshot returns the state as last saved. It never blocks.
func (r *Role) Snapshot() *Snapshot { return r.snapshot.Load() }

// Refresh works out the policy again, after the mount's defaults changed.
func (r *Role) Refresh() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	resolved, err := r.resolve(r.Snapshot().State)
	if err != nil {
		return err
	}
	r.amend(func(s *Snapshot) { s.Resolved = resolved })
	return nil
}

// publish shows a stored state to readers.
func (r *Role) publish(s *State) error {
	resolved, err := r.resolve(s)
	if err != nil {
		return err
	}
	r.show(&Snapshot{State: s, Resolved: resolved})
	return nil
}

func (r *Role) resolve(s *State) (ResolvedPolicy, error) {
	resolved, err := s.Policy.Resolve(r.engine.Settings().Defaults, r.engine.Cron, r.Key)
	if err != nil {
		return ResolvedPolicy{}, fmt.Errorf("policy of %s: %w", r.Key, err)
	}
	return resolved, nil
}

// amend changes what is known about the state, but not the state.
func (r *Role) amend(change func(*Snapshot)) {
	now := r.Snapshot()
	next := &Snapshot{State: now.State, Resolved: now.Resolved, Unsure: now.Unsure, NotBefore: now.NotBefore}
	change(next)
	r.snapshot.Store(next)
}

// saveTimeout bounds one write; storage answers in milliseconds or is gone.
const saveTimeout = 20 * time.Second

// update changes the state: clone, change, save, show. When the save fails,
// readers keep seeing what was there before.
func (r *Role) update(ctx context.Context, change func(*State) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.updateLocked(ctx, change)
}

func (r *Role) updateLocked(ctx context.Context, change func(*State) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if err := r.reloadLocked(ctx); err != nil {
		return err
	}
	next := r.Snapshot().Clone()
	next.Schema = Schema
	known := next.History.Count
	if err := change(next); err != nil {
		return err
	}
	resolved, err := r.Snapshot().Resolved, error(nil)
	if next.Policy != r.Snapshot().Policy {
		resolved, err = r.resolve(next)
	}
	if err != nil {
		return err
	}
	if err := r.leave(ctx, next); err != nil {
		return err
	}
	if err := r.engine.Store.Save(ctx, r.Key, next); err != nil {
		r.amend(func(s *Snapshot) { s.Unsure, s.NotBefore = true, time.Time{} })
		r.engine.Changed(r)
		return fmt.Errorf("%w: save state of %s: %w", ErrStorage, r.Key, err)
	}
	r.saves, r.stalls = r.saves+1, 0
	r.show(&Snapshot{State: next, Resolved: resolved})
	close(r.moved)
	r.moved = make(chan struct{})
	r.announce(next, known)
	r.engine.Changed(r)
	return nil
}

// leave lets Leave know of the values that next does not have any more.
func (r *Role) leave(ctx context.Context, next *State) error {
	if r.engine.Leave == nil {
		return nil
	}
	if err := r.engine.Leave(ctx, r, r.Snapshot().State, next); err != nil {
		return fmt.Errorf("%w: note the values that %s gives up: %w", ErrStorage, r.Key, err)
	}
	return nil
}

// reloadLocked replaces the snapshot by what storage holds if the last save
// ended in doubt.
func (r *Role) reloadLocked(ctx context.Context) error {
	if !r.Snapshot().Unsure {
		return nil
	}
	stored, err := r.engine.Store.Load(ctx, r.Key)
	if err != nil {
		return fmt.Errorf("%w: load state of %s: %w", ErrStorage, r.Key, err)
	}
	known := r.Snapshot().History.Count
	if err := r.publish(existing(stored)); err != nil {
		return err
	}
	r.announce(r.Snapshot().State, known)
	r.engine.Changed(r)
	return nil
}

// stallLocked lets the scheduler wait before it tries again what has just failed
// without a trace in storage: not for long if readers may be without a value that works.
func (r *Role) stallLocked() {
	r.stalls++
	at := r.retryAt(r.stalls)
	if s := r.Snapshot(); s.open() || len(s.Unresolved()) > 0 {
		at = sooner(at, r.engine.Now().UTC().Add(maxResolvePause))
	}
	r.amend(func(s *Snapshot) { s.NotBefore = at })
}

// announce reports the entries that are new in s.
func (r *Role) announce(s *State, known int) {
	for _, e := range s.Outbox {
		if e.Sequence <= known {
			continue
		}
		if rec, err := e.Decode(); err == nil {
			r.engine.Recorded(r, rec, e)
		}
	}
}

// dropAppended empties the outbox of what is known to be appended, but for the
// newest entry, which tells a commit in doubt that it has landed, and the newest
// of a request, which tells it what it had done when it is repeated.
func (s *State) dropAppended(sequence int) {
	if len(s.Outbox) < 2 {
		return
	}
	_, answer := s.answer("")
	s.Outbox = slices.DeleteFunc(s.Outbox, func(e Entry) bool {
		return e.Sequence <= sequence && e.Sequence < s.History.Count && e.Sequence != answer
	})
}

// flush appends the outbox to the history. Entries travel in the state until
// this has worked, so a crash loses none.
func (r *Role) flush(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	for _, e := range r.Snapshot().Outbox {
		if e.Sequence <= r.appended {
			continue
		}
		if err := r.engine.Store.Append(ctx, r.Key, e); err != nil {
			return fmt.Errorf("%w: append history of %s: %w", ErrStorage, r.Key, err)
		}
		r.appended = e.Sequence
	}
	return nil
}

// change applies a change that is not a transaction. A record, when given, is completed
// and appended; such a change is refused while an operation runs, and also while one is
// interrupted unless it settles that by clearing InFlight. Nothing is in the way of a record
// of a kind that comes beside operations; one of kind configure without Changes is left
// out.
func (r *Role) change(ctx context.Context, rec *Record, change func(*State) error) error {
	if err := r.changeState(ctx, rec, change); err != nil || rec == nil {
		return err
	}
	// The change is made, whatever comes of this: its entry travels in the state
	// until it is appended.
	_ = r.flush(ctx)
	return nil
}

func (r *Role) changeState(ctx context.Context, rec *Record, change func(*State) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	alone := rec != nil && !rec.Kind.beside()
	if run := r.run.Load(); alone && run != nil {
		return run.Operation().busy(r.Name)
	}
	return r.updateLocked(ctx, func(s *State) error {
		if err := change(s); err != nil {
			return err
		}
		if err := s.checkDescribed(r.Name, r.Snapshot().State); err != nil || rec == nil {
			return err
		}
		if alone && s.InFlight != nil {
			return s.InFlight.busy(r.Name)
		}
		return r.note(s, rec)
	})
}

// note adds a record of a change to the state. One that comes beside operations may come
// in the midst of one, so it takes from the outbox only others like it.
func (r *Role) note(s *State, rec *Record) error {
	switch {
	case !rec.Kind.beside():
		return r.complete(s, rec)
	case rec.Kind == KindConfigure && len(rec.Changes) == 0:
		return nil
	}
	s.Outbox = slices.DeleteFunc(s.Outbox, func(e Entry) bool {
		return e.Sequence <= r.appended && e.beside()
	})
	r.fill(s, rec)
	return s.append(*rec)
}

// complete fills in what every record has and adds it to the state.
func (r *Role) complete(s *State, rec *Record) error {
	r.fill(s, rec)
	s.dropAppended(r.appended)
	return s.append(*rec)
}

// fill fills in what every record has.
func (r *Role) fill(s *State, rec *Record) {
	rec.Role, rec.Environment = r.Name, r.engine.Settings().Environment
	rec.Version = s.Version
	if s.RotatesItself() {
		rec.NextRotation = s.NextRotation
	}
	rec.DurationMS = r.engine.Now().Sub(rec.Started).Milliseconds()
}

// NewOperation starts the description of an operation.
func (e *Engine) NewOperation(kind Kind, trigger Trigger) Operation {
	return Operation{ID: e.NewID(), Kind: kind, Trigger: trigger, Started: e.Now().UTC().Truncate(time.Millisecond)}
}

// own reports whether the engine does this by itself and others wait for it.
func (k Kind) own() bool {
	return k == KindRetire || k == KindPostCommit || k == KindRecover || k == KindMove
}

// busy is the error for whoever finds this operation in the way.
func (op Operation) busy(role string) error {
	return fmt.Errorf("%w: %s %s of %s has been under way since %s", ErrInFlight,
		op.Kind, op.ID, role, op.Started.Format(time.RFC3339))
}

// Free returns ErrInFlight if an operation is under way that somebody asked for, or
// that is due: what is tried meanwhile at its targets would be in its way.
func (r *Role) Free() error {
	if run := r.run.Load(); run != nil && !run.Operation().Kind.own() {
		return run.Operation().busy(r.Name)
	}
	return nil
}

// Same returns ErrInFlight if the role is not at rest, or not as it was in that
// snapshot: what was tried at its targets since has met what others do there.
func (r *Role) Same(s *Snapshot) error {
	if run := r.run.Load(); run != nil {
		return run.Operation().busy(r.Name)
	}
	if r.Snapshot().State != s.State {
		return fmt.Errorf("%w: another operation changed %s meanwhile; try again", ErrInFlight, r.Name)
	}
	return nil
}

// Busy reports whether a run is under way in this process. It never blocks.
func (r *Role) Busy() bool { return r.run.Load() != nil }

// Running returns the run under way in this process, nil if there is none. It
// never blocks.
func (r *Role) Running() *Run { return r.run.Load() }
