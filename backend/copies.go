package backend

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/destination"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// copies sees to it that destinations hold what the roles that name them have. A
// rotation publishes by itself, as the first of what follows its commit; this looks
// after the rest: what a rotation could not publish, roles and destinations that
// were changed, and targets that somebody else has changed. There is one worker for
// each destination at most, so that one that hangs keeps nobody else waiting.
type copies struct {
	b      *backend
	signal chan struct{}

	mu      sync.Mutex
	working map[string]bool // destinations that a worker is busy with
	known   map[copyKey]*tended
}

// copyKey is a destination and the name of a role that names it.
type copyKey struct{ destination, role string }

func (p copyKey) key() string { return copyPrefix + p.destination + "/" + p.role }

// The states of a copy.
const (
	copyInSync  = "in_sync"
	copyPending = "pending"
	copyDrifted = "drifted"
	copyFailed  = "failed"
)

// copyStates lists them.
var copyStates = []string{copyInSync, copyPending, copyDrifted, copyFailed}

// published is what is stored about the copy that a destination has of a role. It
// is written before a target is touched, which a node that can't write then does
// not.
type published struct {
	State string `json:"state"`
	// ID and Version are those of the copy that was tried last.
	ID      string    `json:"id,omitempty"`
	Version int       `json:"version,omitempty"`
	Since   time.Time `json:"since"`
	// Error says why the copy is not in sync, or can't be compared.
	Error string `json:"error,omitempty"`
}

// tended is the same with what only this process needs to know.
type tended struct {
	published
	// next is when to look again; failures counts those in a row.
	next     time.Time
	failures int
}

func newCopies(b *backend) *copies {
	return &copies{b: b, signal: make(chan struct{}, 1), working: map[string]bool{}, known: map[copyKey]*tended{}}
}

// of returns what is known about a copy: from storage the first time.
func (c *copies) of(ctx context.Context, p copyKey) (tended, error) {
	c.mu.Lock()
	known := c.known[p]
	c.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	t := tended{published: published{State: copyPending}}
	found, err := (&store{c.b}).Read(ctx, p.key(), &t.published)
	if found {
		t.next = c.b.now().Add(spreadOver(p, compareEvery))
	}
	if err != nil {
		return t, fmt.Errorf("read copy of %s at %s: %w", p.role, p.destination, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[p] == nil {
		c.known[p] = &t
	}
	return *c.known[p], nil
}

// save notes how a copy is. Only what is new is written.
func (c *copies) save(ctx context.Context, p copyKey, next published) error {
	now, err := c.of(ctx, p)
	if err != nil {
		return err
	}
	next.Since = now.Since
	if next.State != now.State || next.Since.IsZero() {
		next.Since = c.b.now().UTC().Truncate(time.Second)
	}
	if next != now.published {
		if err := (&store{c.b}).Write(ctx, p.key(), next); err != nil {
			return fmt.Errorf("%w: note copy of %s at %s: %w", rotation.ErrStorage, p.role, p.destination, err)
		}
	}
	c.change(p, func(t *tended) { t.published = next })
	return nil
}

// change changes what this process knows of a copy.
func (c *copies) change(p copyKey, change func(*tended)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := tended{published: published{State: copyPending}}
	if known := c.known[p]; known != nil {
		t = *known
	}
	change(&t)
	c.known[p] = &t
}

// forget drops what is known about a copy that nobody looks after any more.
func (c *copies) forget(ctx context.Context, p copyKey) error {
	err := (&store{c.b}).Delete(ctx, p.key())
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, p)
	return err
}

// stir makes the copies at a destination be looked at now: it was changed. Without
// a name, it is those at all.
func (c *copies) stir(name string) {
	c.mu.Lock()
	for p, t := range c.known {
		if name == "" || p.destination == name {
			stirred := *t
			stirred.next, stirred.failures = time.Time{}, 0
			c.known[p] = &stirred
		}
	}
	c.mu.Unlock()
	c.wake()
}

// describe tells how the copies of a role are, for status.
func (c *copies) describe(ctx context.Context, r *rotation.Role) (map[string]any, error) {
	s, all := r.Snapshot(), map[string]any{}
	for _, name := range s.Destinations {
		t, err := c.of(ctx, copyKey{name, r.Name})
		if err != nil {
			return nil, err
		}
		all[name] = map[string]any{
			"state": t.stateFor(s), "version": t.Version, "since": timestamp(t.Since), "last_error": t.Error,
		}
	}
	return all, nil
}

// stateFor is the state of a copy beside what the role has now.
func (t tended) stateFor(s *rotation.Snapshot) string {
	if t.State == copyInSync && t.Version != s.Version {
		return copyPending
	}
	return t.State
}

// inSync reports whether a destination is known to hold what a role has.
func (c *copies) inSync(ctx context.Context, destination string, r *rotation.Role) bool {
	t, err := c.of(ctx, copyKey{destination, r.Name})
	return err == nil && t.stateFor(r.Snapshot()) == copyInSync
}

// tally names the copies at a destination that are in one state.
type tally struct{ destination, state string }

// census counts the copies at each destination by state.
func (c *copies) census() map[tally]int {
	counts := map[tally]int{}
	for _, r := range c.b.registry.Loaded() {
		s := r.Snapshot()
		for _, name := range s.Destinations {
			for _, state := range copyStates {
				counts[tally{name, state}] += 0
			}
			c.mu.Lock()
			known := c.known[copyKey{name, r.Name}]
			c.mu.Unlock()
			state := copyPending
			if known != nil {
				state = known.stateFor(s)
			}
			counts[tally{name, state}]++
		}
	}
	return counts
}

// destination reads a stored destination, nil if there is none.
func (b *backend) destination(ctx context.Context, name string) (*destination.Config, error) {
	entry, err := (&store{b}).get(ctx, destinationPrefix+name)
	if err != nil || entry == nil {
		return nil, err
	}
	c, err := destination.Decode(entry.Value)
	if err != nil {
		return nil, fmt.Errorf("read destination %s: %w", name, err)
	}
	return c, nil
}

// rolesWith lists the roles that name a destination.
func (b *backend) rolesWith(ctx context.Context, name string) ([]*rotation.Role, error) {
	using, err := b.registry.All(ctx, roles.Prefix)
	return slices.DeleteFunc(using, func(r *rotation.Role) bool {
		return !slices.Contains(r.Snapshot().Destinations, name)
	}), err
}
