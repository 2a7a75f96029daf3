package backend

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestDeliveredAndNotNoted lets the process die after a sink has taken events and
// before that could be noted: the next one tells them again, with the same ids and
// in order, so that whoever has seen them can tell.
func TestDeliveredAndNotNoted(t *testing.T) {
	m, r := newMount(t), newReceiver(t)
	m.write("roles/default", nil)
	m.write("secrets/default/pin", d("type", "random"))
	m.clock.advance(time.Second)
	m.write("alerts/hook", d("type", "webhook", "url", r.URL+"/hook"))
	r.set(http.StatusServiceUnavailable)
	m.write("rotate", nil)
	m.eventually("a delivery that is refused", func() bool { return r.refusals() > 0 })
	m.storage.allowPuts(0)
	r.set(http.StatusOK)
	told := []string{"rotation_started", "rotation_completed"}
	m.eventually("the events", func() bool { return len(r.names()) >= len(told) })
	m.boot()
	m.storage.allowPuts(-1)
	m.tick(0)
	m.write("rotate", nil)
	m.eventually("the events of the next rotation", func() bool { return len(r.ids()) == 2*len(told) })
	if all := r.names(); len(all) < 3*len(told) || !slices.Equal(all[:2*len(told)], slices.Concat(told, told)) {
		t.Errorf("the events are %v", all)
	}
	r.onceEach(t)
}

// ids are those of the events received, each once.
func (r *receiver) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for _, e := range r.events {
		if !slices.Contains(ids, e.ID) {
			ids = append(ids, e.ID)
		}
	}
	return ids
}
