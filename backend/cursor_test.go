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
	m.write("rotate", d("reason", "not the same again"))
	m.eventually("the events of the next rotation", func() bool { return len(r.ids()) == 2*len(told) })
	for i, id := range r.ids() {
		if name, times := r.about(id); name != told[i%2] || i < len(told) && times < 2 {
			t.Errorf("event %d is %s, and was told %d times", i, name, times)
		}
	}
	r.onceEach(t)
}

// ids are those of the events received, each once, in the order of the first time.
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

// about is what an id was told of, and how often.
func (r *receiver) about(id string) (name string, times int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.ID == id {
			name, times = e.Event, times+1
		}
	}
	return name, times
}
