package backend

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// usage counts how often the values of each stage are used through this engine,
// and when last, so that an operator sees whether somebody still depends on a
// previous value. It is kept in memory only: a write to storage for each use would
// cost more than the use itself. So the counts begin when this process does.
type usage struct {
	now func() time.Time
	// mu is held while the tenures of a role are followed, never while a use is
	// counted.
	mu    sync.Mutex
	roles sync.Map // key of the role to tenures
}

// tenure is a value in a stage: a secret's current value is another one with each
// version, and its previous value is what that replaced.
type tenure struct {
	secret, stage string
	version       int // of the secret's current value
}

// tenures are those that a role has now. The list is never changed.
type tenures []*uses

// find returns what is known about a tenure; nil if the role does not have it.
func (known tenures) find(t tenure) *uses {
	for _, one := range known {
		if one.tenure == t {
			return one
		}
	}
	return nil
}

// uses is what is known about one tenure.
type uses struct {
	tenure
	since time.Time
	count atomic.Int64
	last  atomic.Int64 // nanoseconds since 1970; zero if never
}

func newUsage(now func() time.Time) *usage { return &usage{now: now} }

// used counts one use of the value that s has in that stage. It waits for nobody
// who does I/O.
func (u *usage) used(r *rotation.Role, s *rotation.Secret, stage string) {
	counted := u.of(r, s, stage)
	if counted == nil {
		// Its rotation has only just been committed.
		u.follow(r)
		counted = u.of(r, s, stage)
	}
	if counted != nil {
		counted.last.Store(u.now().UnixNano())
		counted.count.Add(1)
	}
}

// of returns what is known about a value; nil if it has no such stage any more.
func (u *usage) of(r *rotation.Role, s *rotation.Secret, stage string) *uses {
	known, ok := u.roles.Load(r.Key)
	if !ok || s.Current == nil {
		return nil
	}
	return known.(tenures).find(tenure{s.Name, stage, s.Current.Version})
}

// follow begins to count for the values that have come into a stage, and forgets
// those that have left one. It is called after each change of a role.
func (u *usage) follow(r *rotation.Role) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var before, after tenures
	if known, ok := u.roles.Load(r.Key); ok {
		before = known.(tenures)
	}
	now := u.now()
	for _, t := range tenuresOf(r.Snapshot()) {
		one := before.find(t)
		if one == nil {
			one = &uses{tenure: t, since: now}
		}
		after = append(after, one)
	}
	switch {
	case len(after) == 0:
		u.roles.Delete(r.Key)
	case !slices.Equal(before, after):
		u.roles.Store(r.Key, slices.Clip(after))
	}
}

// tenuresOf lists the tenures of the values that can be used through this engine.
func tenuresOf(s *rotation.Snapshot) []tenure {
	var found []tenure
	for _, name := range s.Names() {
		secret := s.Secrets[name]
		if !countsUses(secret.Type) || secret.Current == nil {
			continue
		}
		found = append(found, tenure{name, stageCurrent, secret.Current.Version})
		if secret.Previous != nil {
			found = append(found, tenure{name, stagePrevious, secret.Current.Version})
		}
	}
	return found
}

// countsUses reports whether values of that type are used through this engine.
func countsUses(typeName string) bool { return typeName == apiKeyType || typeName == jwtType }

// describe adds to a stage of status what is known about its use.
func (c *uses) describe(stage map[string]any) {
	stage["uses"], stage["last_used"], stage["counted_since"] = c.count.Load(), c.lastUsed(), timestamp(c.since)
}

// lastUsed is the time of the last use; null if there was none.
func (c *uses) lastUsed() any {
	if last := c.last.Load(); last != 0 {
		return timestamp(time.Unix(0, last))
	}
	return nil
}
