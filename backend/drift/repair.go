package drift

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// retry is when to try a repair again that has failed so often.
type retry struct {
	failures int
	at       time.Time
}

// maxRepairPause is the longest pause after failed repairs; it doubles from checkAgain.
const maxRepairPause = time.Hour

// after is the retry that follows another failure.
func (again retry) after(now time.Time) retry {
	pause := min(checkAgain<<min(again.failures, 10), maxRepairPause)
	return retry{again.failures + 1, now.Add(pause)}
}

// dueRepair returns the role whose repair is tried again next, and in what time.
func (c *Detector) dueRepair(now time.Time) (r *rotation.Role, wait time.Duration) {
	c.mu.Lock()
	key, wait := "", longestWait
	for one, again := range c.repairs {
		if until := again.at.Sub(now); until < wait {
			key, wait = one, until
		}
	}
	c.mu.Unlock()
	if key == "" {
		return nil, longestWait
	}
	if r = c.ports.Roles.Known(key); r != nil {
		return r, wait
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.repairs, key)
	return nil, longestWait
}

// repair sets again what is refused of a role, if the mount's configuration says so.
// What keeps failing is tried less and less often; as long as the administrator, whom
// every repair needs, cannot log in, it is not tried at all.
func (c *Detector) repair(ctx context.Context, r *rotation.Role) {
	names := slices.Sorted(maps.Keys(c.refused(r)))
	settings, err := c.ports.Settings(ctx)
	wanted := err == nil && settings.Repair && len(names) > 0 && !roles.IsConnection(r)
	c.mu.Lock()
	again := c.repairs[r.Key]
	delete(c.repairs, r.Key)
	c.mu.Unlock()
	postponed := time.Now().Before(again.at)
	if wanted && !postponed {
		c.tryAdministrators(ctx, r, names)
	}
	c.mu.Lock()
	if wanted && !postponed && c.lostLocked(r, names) {
		again.at, postponed = time.Now().Add(checkAgain), true
	}
	if wanted && postponed {
		c.repairs[r.Key] = again
	}
	c.mu.Unlock()
	if !wanted || postponed || c.mended(ctx, r, names) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.repairs[r.Key] = again.after(time.Now())
}

// tryAdministrators tries the logins that a repair of these secrets needs: the server may
// have forgotten them too, and not have been asked yet.
func (c *Detector) tryAdministrators(ctx context.Context, r *rotation.Role, names []string) {
	for _, one := range Logins(r, "") {
		administrator := c.ports.Roles.Known(roles.ConnectionPrefix + one.Connection)
		if administrator == nil || !slices.Contains(names, one.Secret) {
			continue
		}
		for _, login := range Logins(administrator, "") {
			if _, err := c.Check(ctx, login); err != nil {
				c.ports.Log().Warn("could not try the login of a connection's administrator", "connection", one.Connection, "error", err)
			}
		}
	}
}

// lostLocked reports whether the administrator of one of the secrets is refused, or got
// no answer when the server was looked at last.
func (c *Detector) lostLocked(r *rotation.Role, names []string) bool {
	return slices.ContainsFunc(Logins(r, ""), func(one Login) bool {
		w := c.watched[one.Connection]
		return slices.Contains(names, one.Secret) && (len(c.found[roles.ConnectionPrefix+one.Connection]) > 0 || w != nil && w.failing)
	})
}

// hurryLocked has what a connection's server refuses set again at once: the server, or
// its successor, answers again, and what repairs waited for may be over.
func (c *Detector) hurryLocked(connection string) {
	for key, again := range c.repairs {
		if c.ports.Users.Uses(key, connection) {
			again.at = time.Time{}
			c.repairs[key] = again
		}
	}
	c.Wake()
}

// mended runs the repair, and reports whether it has worked.
func (c *Detector) mended(ctx context.Context, r *rotation.Role, names []string) bool {
	run, err := r.Start(ctx, rotation.Request{
		Kind: rotation.KindRepair, Trigger: rotation.TriggerDrift, Reason: "the server refused what is stored", Secrets: names,
	})
	if err == nil {
		<-run.Done()
		_, err = run.Result()
	}
	if err != nil && ctx.Err() == nil {
		c.ports.Log().Warn("could not set a refused value again", "subject", r.Key, "error", err)
	}
	return err == nil
}
