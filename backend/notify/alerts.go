package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

const (
	// Prefix is what the keys of stored alerts begin with; then comes the name.
	Prefix = "alert/"
	// cursorPrefix is followed by the name of the alert, and the key of the role.
	cursorPrefix = "alert-cursor/"
)

// Alerts are the stored alerts of a mount, with a dispatcher for each. No dispatcher
// waits for another, and no rotation waits for any: what they deliver is read from
// storage.
type Alerts struct {
	ctx    context.Context //nolint:containedctx // the life of the dispatchers
	ports  Ports
	ticked chan struct{} // time has passed

	// changing is held while stored alerts or dispatchers are replaced.
	changing sync.Mutex
	// complete says that each stored alert has a dispatcher; guarded by changing.
	complete bool
	// dispatchers, by name of the alert, is replaced as a whole.
	dispatchers atomic.Pointer[map[string]*dispatcher]
}

// New returns the alerts of a mount. Load starts their dispatchers, which end with ctx.
func New(ctx context.Context, ports Ports) *Alerts {
	a := &Alerts{ctx: ctx, ports: ports, ticked: make(chan struct{}, 1)}
	a.dispatchers.Store(&map[string]*dispatcher{})
	return a
}

// Load starts a dispatcher for each stored alert, until the alerts' context ends. What can't
// be read, and what may have been stored although that failed, is read again at each tick.
func (a *Alerts) Load() {
	complaint := ""
	for {
		said := ""
		if err := a.load(); err != nil {
			said = err.Error()
		}
		if said != "" && said != complaint && a.ctx.Err() == nil {
			a.ports.Log().Error("alerts cannot be read, and are tried again", "error", said)
		}
		complaint = said
		select {
		case <-a.ctx.Done():
			return
		case <-a.ticked:
		}
	}
}

// load starts the dispatchers that are missing. One that runs stays: to replace it would
// deliver again what it has not taken down yet.
func (a *Alerts) load() error {
	a.changing.Lock()
	defer a.changing.Unlock()
	if a.complete {
		return nil
	}
	names, err := a.ports.Store.List(a.ctx, Prefix)
	for _, name := range names {
		if (*a.dispatchers.Load())[name] != nil {
			continue
		}
		config, unread := a.Get(a.ctx, name)
		if unread != nil {
			err = errors.Join(err, fmt.Errorf("alert %s: %w", name, unread))
			continue
		}
		a.replace(name, config)
	}
	a.complete = err == nil
	return err
}

// replace stops the dispatcher of an alert, and starts one unless config is nil. Roles
// that are loaded meanwhile are enqueued by Enqueue or here.
func (a *Alerts) replace(name string, config *Config) {
	next := maps.Clone(*a.dispatchers.Load())
	if old := next[name]; old != nil {
		old.stop()
		delete(next, name)
	}
	if config == nil {
		a.dispatchers.Store(&next)
		return
	}
	d := startDispatcher(a.ctx, a.ports, name, *config)
	next[name] = d
	a.dispatchers.Store(&next)
	for _, r := range a.ports.Roles() {
		d.enqueue(r)
	}
}

// Enqueue has every dispatcher look for new events of a role. It never blocks.
func (a *Alerts) Enqueue(r *rotation.Role) {
	for _, d := range *a.dispatchers.Load() {
		d.enqueue(r)
	}
}

// Tick has the dispatchers look for events that only the passing of time brings about.
// It never blocks: Vault cannot seal while its timer runs.
func (a *Alerts) Tick() {
	wake(a.ticked)
	for _, d := range *a.dispatchers.Load() {
		wake(d.ticked)
	}
}

// Undelivered returns, by name of the alert, how many roles have events that are not
// delivered.
func (a *Alerts) Undelivered() map[string]int {
	counts := map[string]int{}
	for name, d := range *a.dispatchers.Load() {
		counts[name], _ = d.status()
	}
	return counts
}

// Get reads a stored alert, nil if there is none.
func (a *Alerts) Get(ctx context.Context, name string) (*Config, error) {
	var c Config
	found, err := a.ports.Store.Read(ctx, Prefix+name, &c)
	if err != nil || !found {
		return nil, err
	}
	return &c, nil
}

// Change stores an alert as edit has changed it, and delivers by that from now on. An
// alert that does not exist yet begins with the defaults.
func (a *Alerts) Change(ctx context.Context, name string, edit func(*Config) error) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	c, err := a.Get(ctx, name)
	if err != nil {
		return err
	}
	isNew := c == nil
	if isNew {
		c = &Config{Notice: DefaultNotice, Created: a.ports.Now().UTC()}
	}
	if err := edit(c); err != nil {
		return err
	}
	if err := a.admit(ctx, c); err != nil {
		return err
	}
	if isNew { // one of that name may have been there before
		if err := a.forget(ctx, name); err != nil {
			return err
		}
	}
	if err := a.ports.Store.Write(ctx, Prefix+name, c); err != nil {
		a.replace(name, nil) // storage knows which of the two goes on: see Load
		a.complete = false
		return fmt.Errorf("save alert: %w", err)
	}
	a.replace(name, c)
	return nil
}

// admit refuses what is not valid, or must not be sent where it is to go.
func (a *Alerts) admit(ctx context.Context, c *Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	rule, err := a.ports.Rule(ctx)
	if err != nil {
		return err
	}
	c.Checked = true
	return c.Admit(ctx, rule)
}

// Delete ends an alert, and drops its cursors. Those that are left over are dropped before
// the next alert of that name begins.
func (a *Alerts) Delete(ctx context.Context, name string) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	if err := a.ports.Store.Delete(ctx, Prefix+name); err != nil {
		return fmt.Errorf("delete alert: %w", err)
	}
	a.replace(name, nil)
	if err := a.forget(ctx, name); err != nil {
		a.ports.Log().Warn("deliveries of a deleted alert are still stored", "alert", name, "error", err)
	}
	return nil
}

// forget drops the cursors of an alert.
func (a *Alerts) forget(ctx context.Context, name string) error {
	for _, prefix := range []string{roles.Prefix, roles.ConnectionPrefix} {
		below := cursorPrefix + name + "/" + prefix
		names, err := a.ports.Store.List(ctx, below)
		if err != nil {
			return fmt.Errorf("list deliveries of %s: %w", name, err)
		}
		for _, role := range names {
			if err := a.ports.Store.Delete(ctx, below+role); err != nil {
				return fmt.Errorf("forget deliveries of %s: %w", name, err)
			}
		}
	}
	return nil
}

// Status is a stored alert, and how its delivery goes.
type Status struct {
	Name   string
	Config *Config
	// Err says why Config is missing.
	Err error
	// Standing is what the outbound rule says of the address; List leaves it out.
	Standing string
	// Waiting is how many roles have events that are not delivered, LastError why the
	// latest delivery failed, empty after a success.
	Waiting   int
	LastError string
}

// Read returns the status of an alert, nil if there is none.
func (a *Alerts) Read(ctx context.Context, name string) (*Status, error) {
	s := a.status(ctx, name)
	if s.Err != nil || s.Config == nil {
		return nil, s.Err
	}
	rule, err := a.ports.Rule(ctx)
	if err != nil {
		return nil, err
	}
	s.Standing = s.Config.Standing(rule)
	return &s, nil
}

// List returns the status of all alerts.
func (a *Alerts) List(ctx context.Context) ([]Status, error) {
	names, err := a.ports.Store.List(ctx, Prefix)
	if err != nil {
		return nil, err
	}
	all := make([]Status, 0, len(names))
	for _, name := range names {
		all = append(all, a.status(ctx, name))
	}
	return all, nil
}

func (a *Alerts) status(ctx context.Context, name string) Status {
	s := Status{Name: name}
	s.Config, s.Err = a.Get(ctx, name)
	if d := (*a.dispatchers.Load())[name]; d != nil {
		s.Waiting, s.LastError = d.status()
	}
	return s
}

// SendTest sends one test event about a role, whatever events the alert is for.
func (a *Alerts) SendTest(ctx context.Context, name, id, role string) error {
	c, err := a.Get(ctx, name)
	if err != nil {
		return err
	}
	if c == nil {
		return rotation.Invalid("name", "there is no alert %q; write alerts/%s first", name, name)
	}
	now := a.ports.Now().UTC()
	e := NewEvent(Test, id, "This is a test of alerts/"+name)
	e.Time, e.Mount, e.Role, e.Environment = now, a.ports.Mount(), role, a.ports.Environment()
	rule, err := a.ports.Rule(ctx)
	if err == nil {
		err = c.Send(ctx, rule, e, now)
	}
	if err != nil {
		return rotation.Invalid("url", "the receiver did not accept the test event: %v", err)
	}
	return nil
}
