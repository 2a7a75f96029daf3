package backend

import (
	"slices"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// lane is the queue of the roles that need the same connections, with workers of
// its own. So a server that hangs keeps those waiting who need it, and nobody
// else, however many roles and servers there are.
type lane struct {
	name    string
	plans   planHeap
	working int
}

// laneOf names the connections that a role needs for what it does next, which may
// be none. A connection needs itself. What follows a commit waits for others than
// PostgreSQL, and has a lane for itself.
func laneOf(r *rotation.Role, action rotation.Action) string {
	if roles.IsConnection(r) {
		return r.Name
	}
	if action.Kind == rotation.KindFollow {
		return "after " + r.Name
	}
	var names []string
	for _, s := range r.Snapshot().Secrets {
		if s.Type != databaseType {
			continue
		}
		if config, err := databaseConfig(s); err == nil && !slices.Contains(names, config.Connection) {
			names = append(names, config.Connection)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// laneLocked returns the lane of that name.
func (s *scheduler) laneLocked(name string) *lane {
	if s.lanes[name] == nil {
		s.lanes[name] = &lane{name: name}
	}
	return s.lanes[name]
}

// sweepLocked forgets a lane that nobody is in.
func (s *scheduler) sweepLocked(l *lane) {
	if len(l.plans) == 0 && l.working == 0 {
		delete(s.lanes, l.name)
	}
}

// planHeap implements heap.Interface, earliest first.
type planHeap []*plan

func (h planHeap) Len() int           { return len(h) }
func (h planHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h planHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *planHeap) Push(x any) {
	p := x.(*plan)
	p.index = len(*h)
	*h = append(*h, p)
}

func (h *planHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	*h = old[:len(old)-1]
	return p
}
