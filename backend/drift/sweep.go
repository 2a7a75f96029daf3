package drift

import (
	"context"
	"errors"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

const (
	// checkPause is the time between two roles that are looked at soon.
	checkPause = 100 * time.Millisecond
	// checkAgain is how long to wait for servers that could not be asked, and checkBusy
	// for operations that were in the way.
	checkAgain = time.Minute
	checkBusy  = 10 * time.Second
	// longestWait is how long to wait at most before looking for something to try.
	longestWait = time.Minute
)

// sweep is where the tries of a connection's logins are. The role that was rotated last
// comes first: that is what a server which lagged has lost. A role that is rotated
// during the sweep is not tried any more, because it has just been.
type sweep struct {
	// at is when it goes on.
	at time.Time
	// begun says that the administrator's own login was tried, which comes first.
	begun bool
	// rotated and key are those of the role that was tried last; empty before the first.
	rotated time.Time
	key     string
	// again are the only roles to try, if it is not the first sweep; left are those that
	// have to be tried once more.
	isAgain     bool
	again, left []*rotation.Role
	// pause is how long to wait for those that are left.
	pause time.Duration
	// cause is why the server could not be asked.
	cause error
}

// Run tries what is to be tried until ctx ends.
func (c *Detector) Run(ctx context.Context) {
	select {
	case <-c.ports.Loaded:
	case <-ctx.Done():
		return
	}
	c.begin()
	for ctx.Err() == nil {
		wait := c.next(ctx)
		if wait <= 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-c.woken:
		case <-time.After(wait):
		}
	}
}

// begin has everything tried: nothing that is stored can tell whether it was restored.
func (c *Detector) begin() {
	c.round = round{tried: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.watched {
		c.sweeps[name] = &sweep{}
	}
}

// Wake makes Run look at what is to be done. It never blocks.
func (c *Detector) Wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// next does one thing that is due, and returns how long to wait for what comes next.
func (c *Detector) next(ctx context.Context) time.Duration {
	now := time.Now()
	r, repair := c.dueRepair(now)
	name, sweep := c.dueSweep(now)
	slow := c.pace(ctx) - now.Sub(c.round.tried)
	switch {
	case repair <= 0:
		c.repair(ctx, r)
	case sweep <= 0:
		select {
		case <-ctx.Done():
		case <-time.After(checkPause):
			c.step(ctx, name)
		}
	case slow <= 0:
		c.slowly(ctx)
	default:
		return min(repair, sweep, slow)
	}
	return 0
}

// look tries what is stored of a role for a connection, and has set again what is
// refused. Asked is false if the server did not answer. The error is of what has to be
// tried once more.
func (c *Detector) look(ctx context.Context, r *rotation.Role, connection string) (asked bool, err error) {
	for _, one := range Logins(r, connection) {
		answered, later := c.Check(ctx, one)
		if !answered {
			return false, later
		}
		err = errors.Join(err, later)
	}
	c.act(ctx, r)
	return true, err
}

// act tells what was found about a role, and has it set again.
func (c *Detector) act(ctx context.Context, r *rotation.Role) {
	if len(c.refused(r)) > 0 {
		c.ports.Changed(r)
		c.repair(ctx, r)
	}
}

// dueSweep returns the connection whose sweep goes on next, and in what time.
func (c *Detector) dueSweep(now time.Time) (name string, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait = longestWait
	for one, s := range c.sweeps {
		if until := s.at.Sub(now); until < wait {
			name, wait = one, until
		}
	}
	return name, wait
}

// step tries the next role of a sweep.
func (c *Detector) step(ctx context.Context, name string) {
	c.mu.Lock()
	s := c.sweeps[name]
	c.mu.Unlock()
	if s == nil {
		return
	}
	r := c.following(name, s)
	if r == nil {
		c.finish(name, s)
		return
	}
	rotated := r.Snapshot().LastRotation
	asked, err := c.look(ctx, r, name)
	if !asked {
		c.putOff(name, s, err)
		return
	}
	c.mu.Lock()
	s.cause = nil
	c.mu.Unlock()
	if err != nil {
		s.leave(r, err)
	}
	switch {
	case s.isAgain:
		s.again = s.again[1:]
	case s.begun:
		s.rotated, s.key = rotated, r.Key
	}
	s.begun = true
}

// leave has a role tried once more: soon if nothing but an operation was in the way.
func (s *sweep) leave(r *rotation.Role, cause error) {
	pause := checkAgain
	if errors.Is(cause, rotation.ErrInFlight) {
		pause = checkBusy
	}
	if len(s.left) == 0 || pause < s.pause {
		s.pause = pause
	}
	s.left = append(s.left, r)
}

// putOff has a sweep go on, with the role that it is at, when the server answers again.
func (c *Detector) putOff(name string, s *sweep, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.at, s.cause = time.Now().Add(checkAgain), cause
	if w := c.watched[name]; w != nil {
		w.failing, w.at = true, time.Now().Add(watchEvery)
	}
}

// Interrupted reports whether the tries of a connection's logins wait for its server to
// answer, or for operations to end.
func (c *Detector) Interrupted(connection string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sweeps[connection]
	return s != nil && !s.at.IsZero()
}

// following returns the role that comes next in a sweep, nil at its end.
func (c *Detector) following(connection string, s *sweep) *rotation.Role {
	switch {
	case s.isAgain && len(s.again) == 0:
		return nil
	case s.isAgain:
		return s.again[0]
	case !s.begun:
		return c.ports.Roles.Known(roles.ConnectionPrefix + connection)
	}
	precedes := func(rotated time.Time, key string, r *rotation.Role) bool {
		last := r.Snapshot().LastRotation
		return rotated.After(last) || rotated.Equal(last) && key < r.Key
	}
	return c.ports.Roles.First(func(r, best *rotation.Role) bool {
		return (s.key == "" || precedes(s.rotated, s.key, r)) &&
			(best == nil || precedes(r.Snapshot().LastRotation, r.Key, best)) && c.ports.Users.Uses(r.Key, connection)
	})
}

// finish ends a sweep, or begins one of what is left.
func (c *Detector) finish(name string, s *sweep) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sweeps[name] != s {
		return // it has begun again
	}
	delete(c.sweeps, name)
	if len(s.left) > 0 {
		c.sweeps[name] = &sweep{at: time.Now().Add(s.pause), isAgain: true, again: s.left}
	}
}

// sweepLocked has the logins of a connection tried soon.
func (c *Detector) sweepLocked(connection string) {
	c.sweeps[connection] = &sweep{}
	delete(c.silent, connection)
	c.Wake()
}
