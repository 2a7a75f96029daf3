package usage

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// counter counts how often the values of each stage are used through this engine,
// and when last, so that an operator sees whether somebody still depends on a
// previous value. A write to storage for each use would cost more than the use
// itself, so the counts begin when this process does.
type counter struct {
	now    func() time.Time
	counts func(typeName string) bool
	// following is held while the stages of a role are followed, never while a use is
	// counted.
	following sync.Mutex
	roles     sync.Map // key of the role to stageUsages
}

// stage is a value in a stage: a secret's current value is another one with each
// version, and its previous value is what that replaced.
type stage struct {
	secret, name string
	version      int // of the secret's current value
}

// stageUsages are those of the stages that a role has now. The list is never changed.
type stageUsages []*stageUsage

// find returns the usage of a stage; nil if the role does not have it.
func (known stageUsages) find(of stage) *stageUsage {
	for _, one := range known {
		if one.stage == of {
			return one
		}
	}
	return nil
}

// stageUsage counts the uses of one value in a stage.
type stageUsage struct {
	stage
	since time.Time
	count atomic.Int64
	last  atomic.Int64 // nanoseconds since 1970; zero if never
}

// Uses is what is known of the use of a value in a stage.
type Uses struct {
	Count int64
	// Last is when the value was last used; zero if never. Since is when counting began.
	Last, Since time.Time
}

// Used counts one use of the value that s has in that stage. It waits for nobody
// who does I/O.
func (c *counter) Used(r *rotation.Role, s *rotation.Secret, name string) {
	counted := c.find(r, s, name)
	if counted == nil {
		// Its rotation has only just been committed.
		c.follow(r)
		counted = c.find(r, s, name)
	}
	if counted != nil {
		counted.last.Store(c.now().UnixNano())
		counted.count.Add(1)
	}
}

// Uses returns what is known of the use of the value that s has in that stage; false
// if it is not counted, or not in that stage any more.
func (c *counter) Uses(r *rotation.Role, s *rotation.Secret, name string) (Uses, bool) {
	counted := c.find(r, s, name)
	if counted == nil {
		return Uses{}, false
	}
	uses := Uses{Count: counted.count.Load(), Since: counted.since}
	if last := counted.last.Load(); last != 0 {
		uses.Last = time.Unix(0, last)
	}
	return uses, true
}

func (c *counter) find(r *rotation.Role, s *rotation.Secret, name string) *stageUsage {
	known, ok := c.roles.Load(r.Key)
	if !ok || s.Current == nil {
		return nil
	}
	return known.(stageUsages).find(stage{s.Name, name, s.Current.Version})
}

// follow begins to count for the values that have come into a stage, and forgets
// those that have left one. It is called after each change of a role.
func (c *counter) follow(r *rotation.Role) {
	c.following.Lock()
	defer c.following.Unlock()
	var before, after stageUsages
	if known, ok := c.roles.Load(r.Key); ok {
		before = known.(stageUsages)
	}
	now := c.now()
	for _, of := range c.stages(r.Snapshot()) {
		one := before.find(of)
		if one == nil {
			one = &stageUsage{stage: of, since: now}
		}
		after = append(after, one)
	}
	switch {
	case len(after) == 0:
		c.roles.Delete(r.Key)
	case !slices.Equal(before, after):
		c.roles.Store(r.Key, slices.Clip(after))
	}
}

// stages lists the stages of the values whose use is counted.
func (c *counter) stages(s *rotation.Snapshot) []stage {
	var found []stage
	for _, name := range s.Names() {
		one := s.Secrets[name]
		if !c.counts(one.Type) || one.Current == nil {
			continue
		}
		found = append(found, stage{name, secret.StageCurrent, one.Current.Version})
		if one.Previous != nil {
			found = append(found, stage{name, secret.StagePrevious, one.Current.Version})
		}
	}
	return found
}
