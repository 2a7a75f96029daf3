package drift

import (
	"context"
	"errors"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// watch is what is known about the server that a connection leads to. When it is
// another one than before, all logins of the connection are tried: it may have been
// promoted before it had the latest passwords, or restored.
type watch struct {
	// at is when to ask again, asking that an answer is waited for.
	at     time.Time
	asking bool
	// seen is the server that answered last, nil before the first.
	seen *postgres.Identity
	// failing says that the latest question got no answer, refused that the login of the
	// administrator was refused, or seems to be.
	failing, refused, unsure bool
}

const (
	// watchTick is how often the connections are looked through.
	watchTick = time.Second
	// watchEvery is the time between two questions to a server, watchSilent to one that
	// does not answer, and watchRefused to one that refuses the administrator, whose
	// login may be locked for too many attempts.
	watchEvery   = 10 * time.Second
	watchSilent  = 2 * time.Second
	watchRefused = time.Minute
)

// Follow keeps up with what connections there are, and has one asked soon that was
// changed.
func (c *Detector) Follow(r *rotation.Role) {
	if !roles.IsConnection(r) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case r.Snapshot().Deleted:
		delete(c.watched, r.Name)
		delete(c.sweeps, r.Name)
		delete(c.silent, r.Name)
	case c.watched[r.Name] == nil:
		c.watched[r.Name] = &watch{}
	default:
		c.watched[r.Name].at = time.Time{}
	}
}

// Watch asks every server who it is, again and again, until ctx ends. None is asked
// while its answer is waited for, so that one that hangs keeps nobody else waiting.
func (c *Detector) Watch(ctx context.Context) {
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for {
		c.askAll(ctx, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// askAll asks the servers whose time has come, and returns at once.
func (c *Detector) askAll(ctx context.Context, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, w := range c.watched {
		if !w.asking && !now.Before(w.at) {
			w.asking, w.at = true, now.Add(watchEvery)
			go c.ask(ctx, name, w)
		}
	}
}

// lookTimeout bounds how long one server is waited for.
const lookTimeout = 20 * time.Second

func (c *Detector) ask(ctx context.Context, name string, w *watch) {
	limited, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	seen, err := c.ports.Identity(limited, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	w.asking = false
	if ctx.Err() != nil || c.watched[name] != w {
		return
	}
	again := w.failing && err == nil
	w.failing = err != nil
	// Before the first answer there may have been a server that nobody has asked.
	first := w.seen == nil && err == nil
	another := w.learn(seen, err, time.Now()) || first
	if again || another && err == nil {
		c.hurryLocked(name)
	}
	if another {
		c.sweepLocked(name)
	} else if s := c.sweeps[name]; again && s != nil {
		s.at = time.Time{} // the server that could not be asked
		c.Wake()
	}
}

// learn takes in an answer, and reports whether it comes from another server than the
// one before. With the first answer there is none to compare it with.
func (w *watch) learn(seen postgres.Identity, err error, now time.Time) (another bool) {
	switch {
	case errors.Is(err, rotation.ErrRefused):
		another, w.refused = !w.refused, true
		w.at = now.Add(watchRefused)
	case errors.Is(err, postgres.ErrUncertain):
		another = !w.unsure
	case err != nil:
		w.at = now.Add(watchSilent)
	default:
		another = w.refused || w.seen != nil && *w.seen != seen
		w.seen, w.refused = &seen, false
	}
	w.unsure = errors.Is(err, postgres.ErrUncertain)
	return another
}
