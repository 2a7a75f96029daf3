package notify

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestTickDoesNotWait ticks while the roles cannot be listed: Vault's timer, which Vault
// cannot seal without, does not wait for that, and a dispatcher does.
func TestTickDoesNotWait(t *testing.T) {
	var hold atomic.Bool
	asked, release := make(chan struct{}), make(chan struct{})
	a := New(t.Context(), Ports{
		Now:   time.Now,
		Mount: func() string { return "smvm/" },
		Roles: func() []*rotation.Role {
			if hold.Load() {
				asked <- struct{}{}
				<-release
			}
			return nil
		},
	})
	a.replace("hook", &Config{Type: Webhook})
	hold.Store(true)
	for range 3 {
		a.Tick() // which would deadlock here, as nobody is asked yet
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case <-asked:
	case <-ctx.Done():
		t.Error("no dispatcher looks at the roles after a tick")
	}
	hold.Store(false)
	close(release)
}
