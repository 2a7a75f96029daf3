package notify

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// What the keys begin with.
const (
	Prefix       = "alert/"
	CursorPrefix = "alert-cursor/" // then the alert, and the role
)

// Alerts are the couriers of a mount, one for each sink. None waits for another,
// and no rotation for any: what they deliver is read from what is stored.
type Alerts struct {
	ctx   context.Context //nolint:containedctx // the life of the couriers
	ports Ports

	// couriers is replaced as a whole, while setting is held.
	couriers atomic.Pointer[map[string]*courier]
	setting  sync.Mutex
}

// New has no courier yet: Run loads them. They end with ctx.
func New(ctx context.Context, ports Ports) *Alerts { return &Alerts{ctx: ctx, ports: ports} }

// Run loads what is stored and sees to it that it is delivered.
func (a *Alerts) Run(ctx context.Context) {
	names, err := a.ports.Store.List(ctx, Prefix)
	for _, name := range names {
		config, readErr := a.Config(ctx, name)
		if readErr != nil {
			a.ports.Log().Error("alert cannot be read", "alert", name, "error", readErr)
			continue
		}
		a.Set(name, config)
	}
	if err != nil && ctx.Err() == nil {
		a.ports.Log().Error("alerts cannot be read", "error", err)
	}
}

// Set makes a courier deliver by that configuration, none if it is nil.
func (a *Alerts) Set(name string, config *Config) {
	a.setting.Lock()
	defer a.setting.Unlock()
	next := maps.Clone(a.All())
	if old := next[name]; old != nil {
		old.stop()
	}
	delete(next, name)
	if config != nil {
		next[name] = newCourier(a.ctx, a.ports, name, *config)
	}
	a.couriers.Store(&next)
}

// All are the couriers there are now, by name.
func (a *Alerts) All() map[string]*courier {
	if known := a.couriers.Load(); known != nil {
		return *known
	}
	return map[string]*courier{}
}

// Note makes the couriers look at a role. It never blocks.
func (a *Alerts) Note(r *rotation.Role) {
	for _, c := range a.All() {
		c.note(r)
	}
}

// Tick makes them look at the roles for which only time has passed. It never blocks:
// Vault cannot seal as long as its timer runs.
func (a *Alerts) Tick() {
	for _, c := range a.All() {
		wake(c.ticked)
	}
}

// Config reads a stored alert, nil if there is none.
func (a *Alerts) Config(ctx context.Context, name string) (*Config, error) {
	var c Config
	found, err := a.ports.Store.Read(ctx, Prefix+name, &c)
	if err != nil || !found {
		return nil, err
	}
	return &c, nil
}

// Send delivers an event, by the rule of now.
func (p Ports) Send(ctx context.Context, config Config, e Event, now time.Time) error {
	rule, err := p.Rule(ctx)
	if err != nil {
		return err
	}
	return config.Send(ctx, rule, e, now)
}

// remind tells an Alertmanager what lasts and what is over, by the rule of now.
func (p Ports) remind(ctx context.Context, config Config, lasting, ended []Lasting) error {
	rule, err := p.Rule(ctx)
	if err != nil {
		return err
	}
	return config.Remind(ctx, rule, lasting, ended, time.Now())
}

// told is how a role is called in events.
func told(r *rotation.Role) string {
	if roles.IsConnection(r) {
		return "connections/" + r.Name
	}
	return r.Name
}
