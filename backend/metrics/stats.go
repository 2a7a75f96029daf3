package metrics

import (
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// roleStats counts the roles and connections in memory, which soon after the start
// are all of them.
type roleStats struct {
	roles    []*rotation.Role // those that need action first
	subjects map[string]int
	states   map[[2]string]int // by subject and state
}

// The states that are counted.
var states = []string{"overdue", "needs_attention", "unresolved", "failing", "in_flight", "following", "overlap", "overlap_waiting", "target_refuses"}

func newRoleStats(p Ports, now time.Time) *roleStats {
	c := &roleStats{subjects: map[string]int{"role": 0, "connection": 0}, states: map[[2]string]int{}}
	for subject := range c.subjects {
		for _, state := range states {
			c.states[[2]string{subject, state}] = 0
		}
	}
	urgent := map[*rotation.Role]bool{}
	for _, r := range p.Roles.Loaded() {
		s := r.Snapshot()
		if s.Deleted {
			continue
		}
		is := map[string]bool{
			"overdue": s.Overdue(now), "needs_attention": s.NeedsAttention, "unresolved": len(s.Unresolved()) > 0, "failing": s.Failures > 0,
			"in_flight": s.InFlight != nil, "following": s.PostCommit != nil, "overlap": !overlapEnd(s, now).IsZero(),
			"overlap_waiting": len(s.Waits(now)) > 0, "target_refuses": p.Refused(r),
		}
		c.subjects[roles.Subject(r)]++
		for _, state := range states {
			if is[state] {
				c.states[[2]string{roles.Subject(r), state}]++
			}
		}
		urgent[r] = is["overdue"] || is["needs_attention"] || is["unresolved"] || is["failing"] || is["overlap_waiting"] || is["target_refuses"]
		c.roles = append(c.roles, r)
	}
	slices.SortFunc(c.roles, func(x, y *rotation.Role) int {
		if urgent[x] != urgent[y] {
			return int(truth(urgent[y]) - truth(urgent[x]))
		}
		return strings.Compare(x.Key, y.Key)
	})
	return c
}
