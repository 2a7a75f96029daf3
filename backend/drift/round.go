package drift

import (
	"context"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// slowest is the least time between two logins of the slow tries: with more logins than
// seconds in probe_interval, a round takes longer than that.
const slowest = time.Second

// round is where the slow tries of all logins are: by key, without a list of them.
type round struct {
	key string
	// tried is when the latest were tried, and logins how many.
	tried  time.Time
	logins int
}

// pace is the time from the latest slow try to the next one.
func (c *Detector) pace(ctx context.Context) time.Duration {
	settings, err := c.ports.Settings(ctx)
	if err != nil {
		return longestWait
	}
	c.mu.Lock()
	all := len(c.watched) + c.ports.Users.Logins()
	c.mu.Unlock()
	return paceOf(settings.Interval, all) * time.Duration(max(c.round.logins, 1))
}

// paceOf spreads so many logins over an interval.
func paceOf(interval time.Duration, logins int) time.Duration {
	return max(interval/time.Duration(max(logins, 1)), slowest)
}

// slowly tries the role or connection that comes next in the round of all of them.
func (c *Detector) slowly(ctx context.Context) {
	r := c.ports.Roles.First(func(r, best *rotation.Role) bool {
		return r.Key > c.round.key && (best == nil || r.Key < best.Key) && (roles.IsConnection(r) || c.ports.Users.Uses(r.Key, ""))
	})
	if r == nil && c.round.key == "" {
		c.round = round{tried: time.Now()}
		return
	}
	if r == nil {
		c.round.key = "" // the next round begins where this one would have gone on
		return
	}
	c.round = round{key: r.Key, tried: time.Now()}
	for _, one := range Logins(r, "") {
		c.round.logins += c.ports.Users.LoginsOf(r.Key, one.Secret)
		if c.leftAlone(one.Connection) {
			continue
		}
		if asked, _ := c.Check(ctx, one); !asked {
			c.mu.Lock()
			c.silent[one.Connection] = time.Now().Add(checkAgain)
			c.mu.Unlock()
		}
	}
	c.act(ctx, r)
}

// leftAlone reports whether a connection could not be asked a moment ago.
func (c *Detector) leftAlone(connection string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Before(c.silent[connection])
}
