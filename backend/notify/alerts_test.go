package notify

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

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

func (s alertsInMemory) List(_ context.Context, prefix string) ([]string, error) {
	var names []string
	for key := range s {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			names = append(names, name)
		}
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
	if err := a.load(); err != nil {
		t.Fatal(err)
	}
	now := *a.dispatchers.Load()
	if now["stored"] == nil || begun == nil || now["changed"] != begun {
		t.Errorf("after the stored alerts are loaded the dispatchers are %v", now)
	}
}

// forgetful is a store of which some calls fail.
type forgetful struct {
	alertsInMemory
	lists, reads atomic.Int32 // how many still fail
	lands        atomic.Bool  // the next write lands, and the next deletion does not, and both are answered with an error
}

var errAway = errors.New("storage is away")

func (s *forgetful) List(ctx context.Context, prefix string) ([]string, error) {
	if s.lists.Add(-1) >= 0 {
		return nil, errAway
	}
	return s.alertsInMemory.List(ctx, prefix)
}

func (s *forgetful) Read(ctx context.Context, key string, into any) (bool, error) {
	if s.reads.Add(-1) >= 0 {
		return false, errAway
	}
	return s.alertsInMemory.Read(ctx, key, into)
}

func (s *forgetful) Write(ctx context.Context, key string, value any) error {
	err := s.alertsInMemory.Write(ctx, key, value)
	if s.lands.Swap(false) {
		return errAway
	}
	return err
}

func (s *forgetful) Delete(ctx context.Context, key string) error {
	if s.lands.Swap(false) {
		return errAway
	}
	return s.alertsInMemory.Delete(ctx, key)
}

// TestLoadIsTriedAgain has storage fail when the stored alerts are read: they begin as soon
// as it works.
func TestLoadIsTriedAgain(t *testing.T) {
	s := &forgetful{alertsInMemory: alertsInMemory{}}
	for _, name := range []string{"one", "two"} {
		s.alertsInMemory[Prefix+name] = []byte(`{"type":"webhook","url":"http://127.0.0.1/"}`)
	}
	s.lists.Store(2)
	s.reads.Store(1)
	a := New(t.Context(), Ports{
		Now: time.Now, Mount: func() string { return "smvm/" }, Roles: func() []*rotation.Role { return nil }, Store: s,
		Rule: func(context.Context) (outbound.Rule, error) { return outbound.Rule{}, nil }, Log: hclog.NewNullLogger,
	})
	go a.Load()
	a.ticksUntil(t, "one", "two")
}

// ticksUntil waits until exactly these alerts have dispatchers, while time passes.
func (a *Alerts) ticksUntil(t *testing.T, names ...string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		a.Tick()
		now := slices.Sorted(maps.Keys(*a.dispatchers.Load()))
		if slices.Equal(now, names) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the alerts that deliver are %v, not %v", now, names)
		}
	}
}

// TestChangeThatLanded has a write be answered with an error and take place: the alert
// delivers by what is stored. One that could not be deleted goes on.
func TestChangeThatLanded(t *testing.T) {
	s := &forgetful{alertsInMemory: alertsInMemory{}}
	a := New(t.Context(), Ports{
		Now: time.Now, Mount: func() string { return "smvm/" }, Roles: func() []*rotation.Role { return nil }, Store: s,
		Rule: func(context.Context) (outbound.Rule, error) { return outbound.Rule{}, nil }, Log: hclog.NewNullLogger,
	})
	to := func(url string) error {
		return a.Change(t.Context(), "hook", func(c *Config) error { c.Type, c.URL = Webhook, url; return nil })
	}
	go a.Load()
	for _, url := range []string{"http://127.0.0.1/one", "http://127.0.0.1/two"} {
		s.lands.Store(true)
		if err := to(url); !errors.Is(err, errAway) {
			t.Errorf("the write ends with %v", err)
		}
		a.ticksUntil(t, "hook")
		if now := (*a.dispatchers.Load())["hook"].config.URL; now != url {
			t.Errorf("it delivers to %s", now)
		}
	}
	s.lands.Store(true)
	if err := a.Delete(t.Context(), "hook"); !errors.Is(err, errAway) {
		t.Errorf("the deletion ends with %v", err)
	}
	a.ticksUntil(t, "hook")
	s.alertsInMemory[cursorPrefix+"hook/role/r"] = []byte(`{"sequence":7}`)
	if err := a.Delete(t.Context(), "hook"); err != nil {
		t.Error(err)
	}
	a.ticksUntil(t)
	if len(s.alertsInMemory) > 0 {
		t.Errorf("left over is %v", s.alertsInMemory)
	}
	// A process has ended after it deleted an alert, and before its cursors.
	s.alertsInMemory[cursorPrefix+"hook/role/r"] = []byte(`{"sequence":7}`)
	if err := to("http://127.0.0.1/three"); err != nil || len(s.alertsInMemory) != 1 {
		t.Errorf("the next one of its name begins with %v, %v", s.alertsInMemory, err)
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
