// Package publish keeps destinations in sync with the roles that name them: it
// publishes after each commit, reconciles what targets hold later, and says which
// destinations an operator may write and a role may name.
package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Prefix is the storage of destinations, and copyPrefix that of what is known about
// their copies, which goes on with the destination and the role.
const (
	Prefix     = "destination/"
	copyPrefix = "destination-copy/"
)

// Destinations sees to it that destinations hold what the roles that name them have.
// A rotation publishes by itself, as the first task after its commit. Reconciling does
// the rest: what a rotation could not publish, roles and destinations that were
// changed, and targets that somebody else has changed. There is one worker for each
// destination at most, so that one that hangs keeps nobody else waiting.
type Destinations struct {
	ports  Ports
	signal chan struct{}

	mu      sync.Mutex
	working map[string]bool // destinations that a worker is busy with
	known   map[key]*attempted
}

// New returns the destinations of a mount. Nothing is reconciled before Run.
func New(ports Ports) *Destinations {
	return &Destinations{ports: ports, signal: make(chan struct{}, 1), working: map[string]bool{}, known: map[key]*attempted{}}
}

// key is a destination and the name of a role that names it.
type key struct{ destination, role string }

func (p key) path() string { return copyPrefix + p.destination + "/" + p.role }

// The states of a copy.
const (
	InSync  = "in_sync"
	Pending = "pending"
	Drifted = "drifted"
	Failed  = "failed"
)

// states lists them.
var states = []string{InSync, Pending, Drifted, Failed}

// Status is what is stored about the copy that a destination has of a role. It
// is written before a target is touched, which a node that can't write then does
// not.
type Status struct {
	State string `json:"state"`
	// ID and Version are those of the copy that was tried last.
	ID      string    `json:"id,omitempty"`
	Version int       `json:"version,omitempty"`
	Since   time.Time `json:"since"`
	// Error says why the copy is not in sync, or can't be compared.
	Error string `json:"error,omitempty"`
}

// attempted is a Status with what only this process needs to know.
type attempted struct {
	Status
	// next is when to look again; failures counts those in a row.
	next     time.Time
	failures int
}

// of returns what is known about a copy: from storage the first time.
func (d *Destinations) of(ctx context.Context, p key) (attempted, error) {
	d.mu.Lock()
	known := d.known[p]
	d.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	t := attempted{Status: Status{State: Pending}}
	found, err := d.ports.Store.Read(ctx, p.path(), &t.Status)
	if found {
		t.next = d.ports.Now().Add(spreadOver(p, compareEvery))
	}
	if err != nil {
		return t, fmt.Errorf("read copy of %s at %s: %w", p.role, p.destination, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known[p] == nil {
		d.known[p] = &t
	}
	return *d.known[p], nil
}

// save notes how a copy is. Only what is new is written.
func (d *Destinations) save(ctx context.Context, p key, next Status) error {
	now, err := d.of(ctx, p)
	if err != nil {
		return err
	}
	next.Since = now.Since
	if next.State != now.State || next.Since.IsZero() {
		next.Since = d.ports.Now().UTC().Truncate(time.Second)
	}
	if next != now.Status {
		if err := d.ports.Store.Write(ctx, p.path(), next); err != nil {
			return fmt.Errorf("%w: note copy of %s at %s: %w", rotation.ErrStorage, p.role, p.destination, err)
		}
	}
	d.change(p, func(t *attempted) { t.Status = next })
	return nil
}

// change changes what this process knows of a copy.
func (d *Destinations) change(p key, change func(*attempted)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := attempted{Status: Status{State: Pending}}
	if known := d.known[p]; known != nil {
		t = *known
	}
	change(&t)
	d.known[p] = &t
}

// forget drops what is known about a copy that nobody looks after any more.
func (d *Destinations) forget(ctx context.Context, p key) error {
	err := d.ports.Store.Delete(ctx, p.path())
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, p)
	return err
}

// Recheck reconciles the copies at a destination now, because it was changed; without
// a name, those at all.
func (d *Destinations) Recheck(name string) {
	d.mu.Lock()
	for p, t := range d.known {
		if name == "" || p.destination == name {
			again := *t
			again.next, again.failures = time.Time{}, 0
			d.known[p] = &again
		}
	}
	d.mu.Unlock()
	d.Wake()
}

// Status returns how the copies of a role are, by destination.
func (d *Destinations) Status(ctx context.Context, r *rotation.Role) (map[string]Status, error) {
	s, all := r.Snapshot(), map[string]Status{}
	for _, name := range s.Destinations {
		t, err := d.of(ctx, key{name, r.Name})
		if err != nil {
			return nil, err
		}
		t.State = t.stateFor(s)
		all[name] = t.Status
	}
	return all, nil
}

// stateFor is the state of a copy beside what the role has now.
func (t Status) stateFor(s *rotation.Snapshot) string {
	if t.State == InSync && t.Version != s.Version {
		return Pending
	}
	return t.State
}

// InSync reports whether a destination is known to hold what a role has.
func (d *Destinations) InSync(ctx context.Context, destination string, r *rotation.Role) bool {
	t, err := d.of(ctx, key{destination, r.Name})
	return err == nil && t.stateFor(r.Snapshot()) == InSync
}

// Count counts the roles at each destination by the state of their copies.
func (d *Destinations) Count(give func(destination, state string, roles int)) {
	counts := map[[2]string]int{}
	for _, r := range d.ports.Roles.Loaded() {
		s := r.Snapshot()
		for _, name := range s.Destinations {
			for _, state := range states {
				counts[[2]string{name, state}] += 0
			}
			d.mu.Lock()
			known := d.known[key{name, r.Name}]
			d.mu.Unlock()
			state := Pending
			if known != nil {
				state = known.stateFor(s)
			}
			counts[[2]string{name, state}]++
		}
	}
	for of, count := range counts {
		give(of[0], of[1], count)
	}
}

// Get reads a stored destination, nil if there is none.
func (d *Destinations) Get(ctx context.Context, name string) (*destination.Config, error) {
	var stored json.RawMessage
	found, err := d.ports.Store.Read(ctx, Prefix+name, &stored)
	if err != nil || !found {
		return nil, err
	}
	c, err := destination.Decode(stored)
	if err != nil {
		return nil, fmt.Errorf("read destination %s: %w", name, err)
	}
	return c, nil
}

// Named reads the destinations of those names. What is not there is left out.
func (d *Destinations) Named(ctx context.Context, names []string) (map[string]*destination.Config, error) {
	known := map[string]*destination.Config{}
	for _, name := range names {
		c, err := d.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		if c != nil {
			known[name] = c
		}
	}
	return known, nil
}

// List names the destinations.
func (d *Destinations) List(ctx context.Context) ([]string, error) {
	return d.ports.Store.List(ctx, Prefix)
}

// RoleNames lists the roles that name a destination.
func (d *Destinations) RoleNames(ctx context.Context, name string) ([]string, error) {
	using, err := d.using(ctx, name)
	return roleNames(using), err
}

// using returns the roles that name a destination.
func (d *Destinations) using(ctx context.Context, name string) ([]*rotation.Role, error) {
	using, err := d.ports.Roles.All(ctx, roles.Prefix)
	return slices.DeleteFunc(using, func(r *rotation.Role) bool {
		return !slices.Contains(r.Snapshot().Destinations, name)
	}), err
}

func roleNames(using []*rotation.Role) []string {
	names := make([]string, 0, len(using))
	for _, r := range using {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	return names
}
