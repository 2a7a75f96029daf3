package backend

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/notify"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// alerts are the couriers of a mount, one for each sink. None waits for another,
// and no rotation for any: what they deliver is read from what is stored.
type alerts struct {
	ctx   context.Context //nolint:containedctx // the life of the couriers
	ports Ports

	// couriers is replaced as a whole, while setting is held.
	couriers atomic.Pointer[map[string]*courier]
	setting  sync.Mutex
}

// newAlerts has no courier yet: run loads them. They end with ctx.
func newAlerts(ctx context.Context, ports Ports) *alerts { return &alerts{ctx: ctx, ports: ports} }

// run loads what is stored and sees to it that it is delivered.
func (a *alerts) run(ctx context.Context) {
	names, err := a.ports.Store.List(ctx, alertPrefix)
	for _, name := range names {
		config, readErr := a.config(ctx, name)
		if readErr != nil {
			a.ports.Log().Error("alert cannot be read", "alert", name, "error", readErr)
			continue
		}
		a.set(name, config)
	}
	if err != nil && ctx.Err() == nil {
		a.ports.Log().Error("alerts cannot be read", "error", err)
	}
}

// set makes a courier deliver by that configuration, none if it is nil.
func (a *alerts) set(name string, config *notify.Config) {
	a.setting.Lock()
	defer a.setting.Unlock()
	next := maps.Clone(a.all())
	if old := next[name]; old != nil {
		old.stop()
	}
	delete(next, name)
	if config != nil {
		next[name] = newCourier(a.ctx, a.ports, name, *config)
	}
	a.couriers.Store(&next)
}

// all are the couriers there are now, by name.
func (a *alerts) all() map[string]*courier {
	if known := a.couriers.Load(); known != nil {
		return *known
	}
	return map[string]*courier{}
}

// note makes the couriers look at a role. It never blocks.
func (a *alerts) note(r *rotation.Role) {
	for _, c := range a.all() {
		c.note(r)
	}
}

// tick makes them look at the roles for which only time has passed.
func (a *alerts) tick() {
	couriers := a.all()
	if len(couriers) == 0 {
		return
	}
	now := a.ports.Now()
	for _, r := range a.ports.Roles() {
		for _, c := range couriers {
			if s := r.Snapshot(); !s.Deleted && len(c.timely(r, s, now)) > 0 || c.lasts(r) {
				c.note(r)
			}
		}
	}
}

// config reads a stored alert, nil if there is none.
func (a *alerts) config(ctx context.Context, name string) (*notify.Config, error) {
	var c notify.Config
	found, err := a.ports.Store.Read(ctx, alertPrefix+name, &c)
	if err != nil || !found {
		return nil, err
	}
	return &c, nil
}

// send delivers an event, by the rule of now.
func (p Ports) send(ctx context.Context, config notify.Config, e notify.Event, now time.Time) error {
	rule, err := p.Rule(ctx)
	if err != nil {
		return err
	}
	return config.Send(ctx, rule, e, now)
}

// remind tells an Alertmanager what lasts and what is over, by the rule of now.
func (p Ports) remind(ctx context.Context, config notify.Config, lasting, ended []notify.Lasting) error {
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
