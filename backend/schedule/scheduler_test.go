package schedule

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/random"
)

// unread is a storage that takes everything, and is never read.
type unread struct{ rotation.Store }

func (unread) Save(context.Context, string, *rotation.State) error  { return nil }
func (unread) Append(context.Context, string, rotation.Entry) error { return nil }
func (unread) DeleteEntries(context.Context, string, int) error     { return nil }

// nobody is around an operation.
type nobody struct{ rotation.Hooks }

func (nobody) Plan(context.Context, *rotation.Role, rotation.Operation) ([]rotation.Task, error) {
	return nil, nil
}

// policies make passwords.
type policies func(policy string) string

// Generate implements secret.Passwords.
func (p policies) Generate(_ context.Context, policy string) (string, error) { return p(policy), nil }

// all are the roles of a test.
type all []*rotation.Role

// LoadAll implements Roles.
func (a *all) LoadAll(context.Context) error { return nil }

// Loaded implements Roles.
func (a *all) Loaded() []*rotation.Role { return *a }

// newScheduler returns one with two workers for each queue, and a role for each of the
// names, due at that time. Its one password is made by the policy that also names the
// role's connection.
func newScheduler(t *testing.T, passwords policies, due time.Time, connections ...string) (*Scheduler, all) {
	t.Helper()
	var known all
	ports := Ports{
		Roles: &known, Now: time.Now, Log: func() hclog.Logger { return hclog.New(&hclog.LoggerOptions{Output: t.Output()}) }, Workers: func() int { return 2 },
		Connections: func(r *rotation.Role) []string { return []string{connections[index(r)]} },
	}
	s := New(ports)
	engine := &rotation.Engine{
		Store: unread{}, Drivers: map[string]rotation.Driver{"random": random.New(passwords)},
		Now: ports.Now, NewID: uuid.NewString, Cron: ParseCron, Context: t.Context(),
		Settings: func() rotation.Settings { return rotation.Settings{} },
		Changed:  func(r *rotation.Role) { s.Plan(r) },
		Hooks:    nobody{},
		Recorded: func(*rotation.Role, rotation.Record, rotation.Entry) {},
	}
	for i, connection := range connections {
		config, _ := json.Marshal(map[string]string{"password_policy": connection})
		state := &rotation.State{
			Schema: rotation.Schema, Version: 1, NextRotation: due, Policy: rotation.Policy{AutoRotate: true},
			Secrets: map[string]*rotation.Secret{"pin": {
				Name: "pin", Type: "random", Config: config,
				Current: &rotation.Value{Version: 1, Material: rotation.Material{"value": "first"}},
			}},
		}
		r, err := engine.NewRole(fmt.Sprint(roles.Prefix, i), fmt.Sprint(i), state)
		if err != nil {
			t.Fatal(err)
		}
		known = append(known, r)
		if at := s.Plan(r); !at.Equal(due) {
			t.Fatalf("role %d is planned for %s, want %s", i, at, due)
		}
	}
	return s, known
}

func index(r *rotation.Role) (i int) {
	_, _ = fmt.Sscan(r.Name, &i)
	return i
}

// reaches waits until a role has that version.
func reaches(t *testing.T, r *rotation.Role, want int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); r.Snapshot().Version != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("role %s has version %d after a minute, want %d: %s", r.Name, r.Snapshot().Version, want, r.Snapshot().LastError)
		}
	}
}

// TestQueuesDoNotWaitForEachOther has the roles of one connection hang: no more of them
// work than there are workers, and those of another connection are not kept waiting.
func TestQueuesDoNotWaitForEachOther(t *testing.T) {
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	s, known := newScheduler(t, func(policy string) string {
		if policy == "slow" {
			entered <- struct{}{}
			<-leave
		}
		return "second"
	}, time.Now().Add(-time.Second), "slow", "slow", "slow", "slow", "fast", "fast", "fast")
	go s.Run(t.Context())
	for _, r := range known[4:] {
		reaches(t, r, 2)
	}
	<-entered
	<-entered
	s.dispatch(t.Context())
	s.mu.Lock()
	working, waiting := s.queues["slow"].working, len(s.queues["slow"].plans)
	s.mu.Unlock()
	if working != 2 || waiting != 2 {
		t.Errorf("of four roles that hang, %d work and %d wait, want 2 and 2", working, waiting)
	}
	close(leave)
	for _, r := range known[:4] {
		reaches(t, r, 2)
	}
}

// TestALookCostsNothing looks at the plans of some roles, and of thirty times as many.
func TestALookCostsNothing(t *testing.T) {
	for _, size := range []int{10, 300} {
		s, _ := newScheduler(t, nil, time.Now().Add(time.Hour), make([]string, size)...)
		if n := testing.AllocsPerRun(100, func() { s.followClock(); s.dispatch(t.Context()) }); n > 0 {
			t.Errorf("with %d roles a look takes %v allocations", size, n)
		}
	}
}
