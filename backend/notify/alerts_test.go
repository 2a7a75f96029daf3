package notify

import (
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// alertsInMemory stores alerts by name, as nothing else is stored here.
type alertsInMemory map[string][]byte

func (s alertsInMemory) Read(_ context.Context, key string, into any) (bool, error) {
	value, found := s[key]
	if !found {
		return false, nil
	}
	return true, json.Unmarshal(value, into)
}

func (s alertsInMemory) Write(_ context.Context, key string, value any) (err error) {
	s[key], err = json.Marshal(value)
	return err
}

func (s alertsInMemory) List(context.Context, string) ([]string, error) {
	var names []string
	for key := range s {
		names = append(names, key[len(Prefix):])
	}
	slices.Sort(names)
	return names, nil
}

func (s alertsInMemory) Delete(_ context.Context, key string) error {
	delete(s, key)
	return nil
}

// TestLoadComesLate changes an alert before those that are stored are loaded, which
// happens in the background: its dispatcher delivers already and stays.
func TestLoadComesLate(t *testing.T) {
	a := New(t.Context(), Ports{
		Now: time.Now, Mount: func() string { return "smvm/" }, Roles: func() []*rotation.Role { return nil },
		Store: alertsInMemory{Prefix + "stored": []byte(`{"type":"webhook","url":"http://127.0.0.1/"}`)},
		Rule:  func(context.Context) (outbound.Rule, error) { return outbound.Rule{}, nil },
	})
	if err := a.Change(t.Context(), "changed", func(c *Config) error {
		c.Type, c.URL = Webhook, "http://127.0.0.1/"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	begun := (*a.dispatchers.Load())["changed"]
	a.Load()
	now := *a.dispatchers.Load()
	if now["stored"] == nil || begun == nil || now["changed"] != begun {
		t.Errorf("after the stored alerts are loaded the dispatchers are %v", now)
	}
}

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
