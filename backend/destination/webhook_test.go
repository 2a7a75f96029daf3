package destination

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
)

// receiver does with what it gets what docs/integrations.md asks of receivers.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	seen     map[string]bool
	latest   map[string]Stamp // by owner
	held     map[string]string
	versions map[string]int
	foreign  map[string]bool
}

const hookKey = "a key of a webhook, 0123456789"

func newReceiver(t *testing.T) held {
	r := &receiver{seen: map[string]bool{}, latest: map[string]Stamp{}, held: map[string]string{}, versions: map[string]int{}, foreign: map[string]bool{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		w.WriteHeader(r.take(req.Header.Get(outbound.SignatureHeader), body))
	}))
	t.Cleanup(r.Close)
	return r
}

// take checks a notice, and returns the status to answer.
func (r *receiver) take(signature string, body []byte) int {
	var at int64
	if _, err := fmt.Sscanf(signature, "t=%d,", &at); err != nil || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute {
		return http.StatusUnauthorized
	}
	var n notice
	if signature != outbound.Sign(hookKey, time.Unix(at, 0), body) || json.Unmarshal(body, &n) != nil {
		return http.StatusUnauthorized
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	stamp := Stamp{n.Version, n.Rotated}
	switch {
	case n.Event == testEvent, r.seen[n.ID]:
		return http.StatusNoContent
	case stamp.older(r.latest[n.Owner]):
		return http.StatusConflict
	}
	for name := range n.Values {
		if r.foreign[name] {
			return http.StatusConflict
		}
	}
	r.seen[n.ID], r.latest[n.Owner] = true, stamp
	for name, value := range n.Values {
		r.held[name] = value
		r.versions[name]++
	}
	return http.StatusNoContent
}

func (r *receiver) address() string { return r.URL }

func (r *receiver) target(_ *testing.T, address string) Target {
	return &Webhook{URL: address + "/hook/secret-path", Key: hookKey}
}

func (r *receiver) value(_ *testing.T, name string) (string, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[name], r.versions[name]
}

func (r *receiver) put(_ *testing.T, name, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[name], r.foreign[name] = value, true
}

func (r *receiver) secrets() []string { return []string{hookKey, "secret-path"} }
func (r *receiver) full() answer      { return answer{status: http.StatusRequestEntityTooLarge} }
func (r *receiver) denied() answer    { return answer{status: http.StatusForbidden} }
func (r *receiver) reads() bool       { return false }

// TestSignature is refused by a receiver when it is another's, or old.
func TestSignature(t *testing.T) {
	t.Parallel()
	r := newReceiver(t).(*receiver)
	body, err := json.Marshal(notice{ID: "1", Event: publishEvent})
	if err != nil {
		t.Fatal(err)
	}
	for signature, want := range map[string]int{
		outbound.Sign(hookKey, time.Now(), body):                                             http.StatusNoContent,
		outbound.Sign("another key, just as long", time.Now(), body):                         http.StatusUnauthorized,
		outbound.Sign(hookKey, time.Now().Add(-10*time.Minute), body):                        http.StatusUnauthorized,
		strings.Replace(outbound.Sign(hookKey, time.Unix(1, 0), body), "t=1,", "t=9999,", 1): http.StatusUnauthorized,
		"": http.StatusUnauthorized,
	} {
		if got := r.take(signature, body); got != want {
			t.Errorf("%q is answered %d, want %d", signature, got, want)
		}
	}
}
