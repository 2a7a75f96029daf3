package schedule

import (
	"slices"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// queue is the roles that need the same connections, with workers of its own. So a
// server that hangs keeps those waiting who need it, and nobody else, however many
// roles and servers there are.
type queue struct {
	connections string
	plans       planHeap
	working     int
}

// connectionsOf names the queue of what a role does next by the connections that this
// needs, which may be none. A connection needs itself. What follows a commit waits for
// others than PostgreSQL, and has a queue for itself.
func (s *Scheduler) connectionsOf(r *rotation.Role, action rotation.Action) string {
	switch {
	case roles.IsConnection(r):
		return r.Name
	case action.Kind == rotation.KindPostCommit:
		return "after " + r.Name
	}
	names := slices.Sorted(slices.Values(s.ports.Connections(r)))
	return strings.Join(slices.Compact(names), ",")
}

// queueLocked returns the queue of these connections.
func (s *Scheduler) queueLocked(connections string) *queue {
	if s.queues[connections] == nil {
		s.queues[connections] = &queue{connections: connections}
	}
	return s.queues[connections]
}

// sweepLocked forgets a queue that nobody is in.
func (s *Scheduler) sweepLocked(q *queue) {
	if len(q.plans) == 0 && q.working == 0 {
		delete(s.queues, q.connections)
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
