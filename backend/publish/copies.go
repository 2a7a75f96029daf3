package publish

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// copyPrefix is the storage of what is known about copies, which goes on with the
// destination and the role.
const copyPrefix = "destination-copy/"

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
	t, ok := d.known[p]
	d.mu.Unlock()
	if ok {
		return t, nil
	}
	found, err := d.ports.Store.Read(ctx, p.path(), &t.Status)
	if found {
		t.next = d.ports.Now().Add(spreadOver(p, compareEvery))
	}
	if err != nil {
		return t, fmt.Errorf("read copy of %s at %s: %w", p.role, p.destination, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.known[p]; !ok {
		d.known[p] = t
	}
	return d.known[p], nil
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
	t := d.known[p]
	change(&t)
	d.known[p] = t
}

// forget drops what is known about a copy that nobody looks after any more.
func (d *Destinations) forget(ctx context.Context, p key) error {
	err := d.ports.Store.Delete(ctx, p.path())
	d.turns.Delete(p)
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
			t.next, t.failures = time.Time{}, 0
			d.known[p] = t
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
	return cmp.Or(t.State, Pending)
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
			counts[[2]string{name, known.stateFor(s)}]++
		}
	}
	for of, count := range counts {
		give(of[0], of[1], count)
	}
}
