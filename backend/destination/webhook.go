package destination

import (
	"context"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Webhook posts values as JSON, signed with Key. The receiver's 2xx is taken as
// acceptance: what it does with them can't be seen. It has to refuse signatures
// that are minutes old, to ignore an id that it has seen, and to answer a version
// that is older than the one it has with 409.
type Webhook struct {
	URL   string `json:"url"`
	Key   string `json:"key"`
	TLSCA string `json:"tls_ca,omitempty"`
}

// Fields implements Target.
func (w *Webhook) Fields() map[string]*string {
	return map[string]*string{"url": &w.URL, "key": &w.Key, "tls_ca": &w.TLSCA}
}

// Validate implements Target.
func (w *Webhook) Validate() error {
	if err := checkWay(w.TLSCA, w.Addresses()); err != nil {
		return err
	}
	if len(w.Key) < outbound.MinKey {
		return rotation.Invalid("key", "is missing or shorter than %d characters: what is sent is signed with it, so that the receiver can tell who it is from. Make one by: openssl rand -hex 32", outbound.MinKey)
	}
	return nil
}

// Addresses implements Target.
func (w *Webhook) Addresses() map[string]string { return map[string]string{"url": w.URL} }

// Where implements Target. The path of an address may be a secret.
func (w *Webhook) Where() string { return "webhook " + outbound.Host(w.URL) }

// The events that a receiver gets.
const (
	publishEvent = "publish"
	testEvent    = "test"
)

// notice is what is posted. With the event test it has no values.
type notice struct {
	// ID is the same when the notice is sent again.
	ID    string `json:"id"`
	Event string `json:"event"`
	Owner string `json:"owner"`
	Role  string `json:"role"`
	// Version and Rotated order the notices of a role.
	Version int               `json:"version"`
	Rotated time.Time         `json:"rotated"`
	Values  map[string]string `json:"values,omitempty"`
}

// Preflight implements Target: it sends an event named test, which has no values.
func (w *Webhook) Preflight(ctx context.Context, rule outbound.Rule, c Copy) error {
	return w.post(ctx, rule, notice{ID: "test-" + c.ID, Event: testEvent, Owner: c.Owner, Role: c.Role})
}

// Untried implements Target: the test event takes what publishing takes.
func (w *Webhook) Untried() string { return "" }

// Publish implements Target.
func (w *Webhook) Publish(ctx context.Context, rule outbound.Rule, c Copy) error {
	n := notice{
		ID: c.ID, Event: publishEvent, Owner: c.Owner, Role: c.Role,
		Version: c.Stamp.Version, Rotated: c.Stamp.Time, Values: map[string]string{},
	}
	for _, item := range c.Items {
		n.Values[item.Name] = item.Value
	}
	return w.post(ctx, rule, n)
}

// Compare implements Target.
func (w *Webhook) Compare(context.Context, outbound.Rule, Copy) ([]string, error) {
	return nil, ErrNoReading
}

func (w *Webhook) post(ctx context.Context, rule outbound.Rule, n notice) error {
	status, err := outbound.Post(ctx, rule, outbound.Message{
		URL: w.URL, TLSCA: w.TLSCA, ID: n.ID, Body: n, Key: w.Key, Time: time.Now(),
	})
	return explain(status, err, "the receiver")
}
