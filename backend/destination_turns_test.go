package backend

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/publish"
)

// TestCopiesFollowEachOther rotates while the copy of the version before is on its way:
// the destination is sent the next one when it has answered, and what it answered to the
// first does not stay what is known.
func TestCopiesFollowEachOther(t *testing.T) {
	m := newMount(t)
	var sent, underWay atomic.Int64
	reached, committed := make(chan struct{}), make(chan struct{})
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if underWay.Add(1) > 1 {
			t.Error("it was sent a copy while another one was on its way")
		}
		defer underWay.Add(-1)
		if sent.Add(1) == 1 {
			close(reached)
			select {
			case <-committed:
			case <-r.Context().Done():
			}
			<-time.After(500 * time.Millisecond) // in which the next copy would come
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(hook.Close)
	m.listed("127.0.0.1")
	keyedRole(m)
	m.write("destinations/hook", d("type", "webhook", "allowed_roles", "*", "url", hook.URL, "key", "webhook-key-0123456789", "timeout", 25, "values", "key={{api_key}}", "verify", false))
	m.write("roles/default", d("destinations", "hook"))
	<-reached
	version := m.version("default")
	m.write("rotate", d("wait", 0))
	m.becomes("default", version+1)
	close(committed)
	m.eventually("the end of what follows", func() bool { return m.read("status", nil)["following"] == nil })
	about := m.published("hook", publish.InSync)
	if about["version"] != version+1 || about["last_error"] != "" {
		t.Errorf("of the destination it is said %v", about)
	}
	if n := sent.Load(); n != 2 {
		t.Errorf("it was sent %d copies, want 2", n)
	}
}
