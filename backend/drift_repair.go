package backend

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// The values of on_drift.
const (
	driftReport = "report"
	driftRepair = "repair"
)

// updateDrift takes over the fields that say how stored logins are tried.
func (s *settings) updateDrift(d *framework.FieldData) error {
	if v, ok := d.GetOk("on_drift"); ok {
		if v != driftReport && v != driftRepair {
			return invalid("on_drift", "is neither report nor repair")
		}
		s.OnDrift = v.(string)
	}
	if err := takeDuration(d, "probe_interval", &s.ProbeInterval); err != nil {
		return err
	}
	if p := s.probeInterval(); p < minProbeInterval || p > maxProbeInterval {
		return invalid("probe_interval", "is %d seconds; it must be from %d to %d", seconds(p), seconds(minProbeInterval), seconds(maxProbeInterval))
	}
	return nil
}

func (s *settings) probeInterval() time.Duration { return or(s.ProbeInterval, defaultProbeInterval) }

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
func (c *drift) dueRepair(now time.Time) (r *rotation.Role, wait time.Duration) {
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
	if r = c.b.registry.Known(key); r != nil {
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
func (c *drift) repair(ctx context.Context, r *rotation.Role) {
	names := slices.Sorted(maps.Keys(c.refused(r)))
	settings, err := c.b.loadSettings(ctx)
	c.mu.Lock()
	again := c.repairs[r.Key]
	delete(c.repairs, r.Key)
	wanted := err == nil && settings.OnDrift == driftRepair && len(names) > 0 && !roles.IsConnection(r)
	postponed := time.Now().Before(again.at)
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

// lostLocked reports whether the administrator of one of the secrets is refused, or got
// no answer when the server was looked at last.
func (c *drift) lostLocked(r *rotation.Role, names []string) bool {
	return slices.ContainsFunc(logins(r, ""), func(one checked) bool {
		w := c.watched[one.connection]
		return slices.Contains(names, one.secret) && (len(c.found[roles.ConnectionPrefix+one.connection]) > 0 || w != nil && w.failing)
	})
}

// hurryLocked has what a connection's server refuses set again at once: the server, or
// its successor, answers again, and what repairs waited for may be over.
func (c *drift) hurryLocked(connection string) {
	for key, again := range c.repairs {
		if c.b.connections.Managed.Uses(key, connection) {
			again.at = time.Time{}
			c.repairs[key] = again
		}
	}
	c.wake()
}

// mended runs the repair, and reports whether it has worked.
func (c *drift) mended(ctx context.Context, r *rotation.Role, names []string) bool {
	run, err := r.Start(ctx, rotation.Request{
		Kind: rotation.KindRepair, Trigger: rotation.TriggerDrift, Reason: "the server refused what is stored", Secrets: names,
	})
	if err == nil {
		<-run.Done()
		_, err = run.Result()
	}
	if err != nil && ctx.Err() == nil {
		c.b.log().Warn("what a server refuses could not be set again", "subject", r.Key, "error", err)
	}
	return err == nil
}
